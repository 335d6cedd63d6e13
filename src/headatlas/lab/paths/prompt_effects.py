"""Path patching over prompts of any lengths, measured on a behaviour, prompt by prompt."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.sites import Positions
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.path_patching import PathMetric, Receiver, path_patch, path_runs
from headatlas.lab.paths.path_sweeps import path_sweep
from headatlas.lab.running.batches import OnDone, batches, readout_tensors, stack_tokens
from headatlas.lab.running.metrics import Metric
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


def path_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    receivers: Iterable[Receiver] | Literal["logits"] = "logits",
    source: Sequence[tuple[int, ...]] | None = None,
    sender_positions: Positions | Literal["last"] = None,
    *,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    progress: OnDone | None = None,
) -> Array:
    """Measure how much a behaviour changes when each head's path to the receivers is patched from another prompt.

    Args:
        model: to run.
        prompts: with readouts; these are the clean prompts.
        metric: of the behaviour.
        receivers: ends of the paths: inputs of heads, patched together, or "logits" for the direct effect.
        source: one prompt of equal length per clean prompt; the corrupted prompts by default.
        sender_positions: where the heads are patched: the same in every prompt, or "last"; everywhere by default.
        mlps: whether MLPs are recomputed, or frozen at their clean output.
        progress: called with the number of prompts done since the last call.

    Returns:
        [prompt layer head], patched minus clean.

    Raises:
        HeadatlasError: if sources and prompts do not align, or as in `path_sweep`.
    """
    others = [prompt.corrupted for prompt in prompts] if source is None else list(source)
    if [len(each) for each in others] != [len(prompt.tokens) for prompt in prompts]:
        raise HeadatlasError("sources and prompts differ in number or length; give each prompt one of equal length")
    ends = receivers if receivers == "logits" else tuple(receivers)
    effects = model.anatomy.empty(len(prompts))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        kept, read = _reading(batch, metric)
        tokens, sources = stack_tokens([prompt.tokens for prompt in batch]), stack_tokens([others[i] for i in index])
        runs = path_runs(model, tokens, sources, kept.tolist(), mlps=mlps)
        sending = [tokens.shape[1] - 1] if isinstance(sender_positions, str) else sender_positions
        effect = path_sweep(runs, ends, read, sender_positions=sending).effect  # [layer head batch]
        effects[index] = effect.permute(2, 0, 1).double().cpu().numpy()
        if progress:
            progress(len(batch))
    return effects


def set_path_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    senders: Sequence[Sequence[Head]],
    receivers: Sequence[Receiver],
    *,
    progress: OnDone | None = None,
) -> Array:
    """Measure how much a behaviour changes when the paths of sets of heads are patched from the corrupted prompts.

    Args:
        model: to run.
        prompts: with readouts; their corrupted prompts are the source.
        metric: of the behaviour.
        senders: sets of heads, each patched together.
        receivers: inputs of heads, patched together.
        progress: called with 1 after each set on each batch of prompts.

    Returns:
        [set prompt], patched minus clean.
    """
    effects = np.empty((len(senders), len(prompts)))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        kept, read = _reading(batch, metric)
        tokens, sources = (stack_tokens([getattr(each, side) for each in batch]) for side in ("tokens", "corrupted"))
        runs = path_runs(model, tokens, sources, kept.tolist())
        for number, heads in enumerate(senders):
            effects[number, index] = path_patch(runs, heads, receivers, read).double().cpu().numpy()
            if progress:
                progress(1)
    return effects


def _reading(batch: Sequence[Prompt], metric: Metric) -> tuple[Tensor, PathMetric]:
    """The positions whose logits a batch needs, [kept], and the behaviour as a function of those logits."""
    kept, *readouts = readout_tensors(batch)

    def read(logits: Tensor) -> Tensor:
        place, right, wrong = (each.to(logits.device) for each in readouts)
        chosen = logits.gather(1, place[..., None].expand(-1, -1, logits.shape[-1]))
        return metric(chosen, right, wrong)

    return kept, read
