"""Path patching over prompts of any lengths, measured on a behaviour, prompt by prompt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab.ablation.replacement import EditPositions, edited_positions
from headatlas.lab.ablation.sweep_batches import TOGETHER
from headatlas.lab.ablation.sweep_engine import reuse_together
from headatlas.lab.ablation.sweep_task import HeadSet, SweepBatch, SweepTask
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.activations.sites import Positions
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.path_patching import Receiver, patched_logits
from headatlas.lab.paths.path_sweeps import PathPart, sweep_parts
from headatlas.lab.paths.path_trials import PathTask
from headatlas.lab.paths.prompt_batches import PathBatch, Source, run_batches
from headatlas.lab.running.batches import OnDone
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.metrics import Metric
from headatlas.notation import HeadsLike
from headatlas.stimuli.prompts import Prompt

_ROWS, _TOKENS = 256, 1024  # followed together, and tokens of prompts whose keys and values are kept meanwhile


@dataclass(frozen=True)
class PathEffects:
    """The effect of every head's path to some receivers.

    Attributes:
        clean: [prompt], the behaviour without patching.
        sources: [source prompt], the behaviour of the source of each prompt, read as the prompt is.
        effects: [source prompt layer head], patched minus clean; NaN for heads that do not exist.
    """

    clean: Array
    sources: Array
    effects: Array


def path_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    receivers: Iterable[Receiver] | Literal["logits"] = "logits",
    source: Source = None,
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
    sources: Sequence[Source],
    receivers: Iterable[Receiver] | Literal["logits"] = "logits",
    sender_positions: Positions | Literal["last"] = None,
    *,
    factor: Array | None = None,
    mlps: Literal["recomputed", "frozen"] = "recomputed",
    progress: OnDone | None = None,
) -> PathEffects:
    """`path_effects` from each of several sources, in shared runs.

    Args:
        model, prompts, metric, receivers, sender_positions, mlps, progress: as in `path_effects`.
        sources: each as in `path_effects`; None for the corrupted prompts.
        factor: [layer head], what each head's effects are multiplied by. Heads whose factor is 0 are not run.

    Raises:
        HeadatlasError: as in `path_effects`.
    """
    ends = receivers if receivers == "logits" else tuple(receivers)
    chosen = None if factor is None else frozenset(head for head in model.anatomy.all_heads if factor[head] != 0)

    task = PathTask(ends, None, None, mlps == "frozen", heads=chosen)
    found = _empty(model, prompts, sources)
    queue = _Queue(found, task, progress)
    for batch in run_batches(model, prompts, metric, sources, mlps):
        sending = [batch.length - 1] if isinstance(sender_positions, str) else sender_positions
        queue.add(batch, PathPart(batch.runs, replace(task, sender_positions=sending), batch.read))
    queue.finish()
    if factor is None:
        return found
    return replace(found, effects=np.where(factor == 0, 0.0, found.effects * factor))


def indirect_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    sources: Sequence[Source],
    positions: EditPositions = "last",
    *,
    progress: OnDone | None = None,
) -> PathEffects:
    """Measure what each head does through later heads: its total effect minus its direct effect.

    The total effect is that of `sweep` with 'resample', the direct one that of `path_effects` to the logits; both are
    patched from the same runs.

    Args:
        model, prompts, metric, sources, progress: as in `path_effects_from`.
        positions: where the heads are patched, as in `sweep`.

    Raises:
        HeadatlasError: as in `path_effects` and `sweep`.
    """
    found = _empty(model, prompts, sources)
    total = np.zeros_like(found.effects)
    sets = [HeadSet((head,), number) for head in model.anatomy.all_heads for number in range(len(sources))]
    task, queue = SweepTask(model, metric, sets, (), positions, None), _Queue(found, _TO_LOGITS, progress)
    waiting: list[tuple[PathBatch, SweepBatch]] = []

    def finish() -> None:
        if not waiting:
            return
        with only_logits_of(model, waiting[0][0].runs[0].vocabulary):
            results = reuse_together([part for _, part in waiting], None, [each.runs[0].trace for each, _ in waiting])
        for (batch, _), result in zip(waiting, results, strict=True):
            for ((head,), source), values in zip(sets, result.ablated - result.clean, strict=True):
                total[source, batch.index, head.layer, head.head] = values
        waiting.clear()

    for batch in run_batches(model, prompts, metric, sources, "recomputed"):
        at = edited_positions(positions, batch.length)
        patches = [ZValues({layer: z for (_, layer), z in each.corrupted.activations.items()}) for each in batch.runs]
        waiting.append((batch, SweepBatch(task, batch.runs[0].tokens, batch.readouts, patches, at)))
        queue.add(batch, PathPart(batch.runs, replace(_TO_LOGITS, sender_positions=at.tolist()), batch.read))
        if sum(part.tokens.numel() for _, part in waiting) >= TOGETHER:
            finish()
    finish()
    queue.finish()
    return replace(found, effects=total - found.effects)


def set_path_effects(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    senders: Sequence[HeadsLike],
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
    for batch in run_batches(model, prompts, metric, [None], "recomputed"):
        [runs] = batch.runs
        for number, heads in enumerate(senders):
            patched = batch.read(patched_logits(runs, heads, receivers)[None])[0]
            effects[number, batch.index] = patched.numpy() - batch.clean
            if progress:
                progress(1)
    return effects


_TO_LOGITS = PathTask("logits", None, None, frozen=False)


class _Queue:
    """Batches whose paths wait to be swept together, and the effects to fill in."""

    def __init__(self, found: PathEffects, task: PathTask, progress: OnDone | None) -> None:
        self._found, self._task, self._progress = found, task, progress
        self._waiting: list[tuple[list[int], PathPart]] = []

    def add(self, batch: PathBatch, part: PathPart) -> None:
        self._found.clean[batch.index], self._found.sources[:, batch.index] = batch.clean, batch.sources
        self._waiting.append((batch.index, part))
        rows = sum(len(part.rows) for _, part in self._waiting if part.rows)
        if rows >= _ROWS or sum(part.held for _, part in self._waiting) >= _TOKENS:
            self.finish()

    def finish(self) -> None:
        sweep_parts([part for _, part in self._waiting], self._task)
        for index, part in self._waiting:
            self._found.effects[:, index] = torch.stack(part.effects).permute(0, 3, 1, 2).numpy()
            if self._progress:
                self._progress(len(index))
        self._waiting.clear()


def _empty(model: OpenModel, prompts: Sequence[Prompt], sources: Sequence[Source]) -> PathEffects:
    """To be filled in."""
    count = len(prompts)
    effects = np.stack([model.anatomy.empty(count) for _ in sources]) if sources else np.empty((0, count, 0, 0))
    return PathEffects(np.empty(count), np.empty((len(sources), count)), effects)
