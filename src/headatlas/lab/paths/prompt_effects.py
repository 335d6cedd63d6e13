"""Path patching over prompts of any lengths, measured on a behaviour, prompt by prompt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.sites import Positions
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.path_patching import Receiver, patched_logits, path_runs
from headatlas.lab.paths.path_sweeps import PathPart, Read, sweep_parts
from headatlas.lab.paths.path_trials import PathTask
from headatlas.lab.running.batches import OnDone, batches, stack_tokens
from headatlas.lab.running.metrics import Metric
from headatlas.lab.running.readouts import read_metric, readouts_among, tokens_read
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

_ROWS, _TOKENS = 256, 1024  # followed together, and tokens of prompts whose keys and values are kept meanwhile


@dataclass(frozen=True)
class PathEffects:
    """The effect of every head's path to some receivers.

    Attributes:
        clean: [prompt], the behaviour without patching.
        effects: [source prompt layer head], patched minus clean; NaN for heads that do not exist.
    """

    clean: Array
    effects: Array


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
    found = path_effects_from(
        model, prompts, metric, [source], receivers, sender_positions, mlps=mlps, progress=progress
    )
    each: Array = found.effects[0]
    return each


def path_effects_from(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    sources: Sequence[Sequence[tuple[int, ...]] | None],
    receivers: Iterable[Receiver] | Literal["logits"] = "logits",
    sender_positions: Positions | Literal["last"] = None,
    *,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    progress: OnDone | None = None,
) -> PathEffects:
    """`path_effects` from each of several sources, in shared runs.

    Args:
        model, prompts, metric, receivers, sender_positions, mlps, progress: as in `path_effects`.
        sources: each as in `path_effects`; None for the corrupted prompts.

    Raises:
        HeadatlasError: as in `path_effects`.
    """
    if not sources:
        raise ValueError("no sources to patch from; give at least one")
    others = [[prompt.corrupted for prompt in prompts] if source is None else list(source) for source in sources]
    if any([len(each) for each in source] != [len(prompt.tokens) for prompt in prompts] for source in others):
        raise HeadatlasError("sources and prompts differ in number or length; give each prompt one of equal length")
    ends = receivers if receivers == "logits" else tuple(receivers)
    vocabulary = tokens_read(model, metric, prompts)
    clean, effects = np.empty(len(prompts)), np.stack([model.anatomy.empty(len(prompts)) for _ in sources])
    waiting: list[tuple[list[int], PathPart]] = []

    def task(length: int) -> PathTask:
        sending = [length - 1] if isinstance(sender_positions, str) else sender_positions
        return PathTask(ends, sending, None, mlps == "frozen")

    def finish() -> None:
        sweep_parts([part for _, part in waiting], task(1))
        for index, part in waiting:
            clean[index] = part.clean
            effects[:, index] = torch.stack(part.effects).permute(0, 3, 1, 2).numpy()
            if progress:
                progress(len(index))
        waiting.clear()

    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        kept, read = _reading(batch, metric, vocabulary)
        tokens = stack_tokens([prompt.tokens for prompt in batch])
        first, *rest = (stack_tokens([source[i] for i in index]) for source in others)
        runs = [path_runs(model, tokens, first, kept, mlps=mlps, vocabulary=vocabulary)]
        runs += [runs[0].from_source(source) for source in rest]
        waiting.append((index, PathPart(runs, task(tokens.shape[1]), read)))
        rows = sum(len(part.rows) for _, part in waiting if part.rows)
        if rows >= _ROWS or sum(len(index) * len(prompts[index[0]].tokens) for index, _ in waiting) >= _TOKENS:
            finish()
    finish()
    return PathEffects(clean, effects)


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
    vocabulary = tokens_read(model, metric, prompts)
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        kept, read = _reading(batch, metric, vocabulary)
        tokens, sources = (stack_tokens([getattr(each, side) for each in batch]) for side in ("tokens", "corrupted"))
        runs = path_runs(model, tokens, sources, kept, vocabulary=vocabulary)
        for number, heads in enumerate(senders):
            effects[number, index] = (read(patched_logits(runs, heads, receivers)[None]) - read(runs.logits[None]))[0]
            if progress:
                progress(1)
    return effects


def _reading(batch: Sequence[Prompt], metric: Metric, vocabulary: Tensor | None) -> tuple[list[int], Read]:
    """The positions whose logits a batch needs, and the behaviour as a function of those logits."""
    readouts = readouts_among(vocabulary, batch)
    return readouts[0].tolist(), lambda logits: torch.from_numpy(read_metric(metric, logits, readouts))
