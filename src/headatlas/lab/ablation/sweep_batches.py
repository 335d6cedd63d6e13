"""Runs sweeps over prompts of any lengths, batch by batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.batched_copies import short_of_memory
from headatlas.lab.ablation.replacement import Replacement, edited_positions
from headatlas.lab.ablation.sweep_engine import reuse, reuse_together
from headatlas.lab.ablation.sweep_task import SweepBatch, SweepResult, SweepTask
from headatlas.lab.ablation.z_values import ZValues, record_z_and_logits
from headatlas.lab.running.batches import Readouts, batches, stack_tokens
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.readouts import read_metric, readouts_among, tokens_read
from headatlas.stimuli.prompts import Prompt

TOGETHER = 512  # tokens of prompts whose clean runs are held at once, to rerun their last positions together


def run_sweep(
    task: SweepTask, prompts: Sequence[Prompt], minus_corrupted: bool, how: Callable[[SweepBatch], SweepResult]
) -> SweepResult:
    """Run a task over all prompts, batch by batch, halving batches that do not fit into memory.

    Raises:
        HeadatlasError: if memory is too short for a single prompt, or logits are not finite.
    """
    notes: list[str] = []
    found: list[tuple[list[int], SweepResult]] = []
    waiting = [index for index, _ in batches(task.model, prompts, lambda prompt: len(prompt.readouts))]
    while waiting:
        index = waiting.pop(0)
        batch = [prompts[number] for number in index]
        try:
            found.append((index, _batch(task, index, batch, minus_corrupted, how)))
        except RuntimeError as error:
            if not short_of_memory(error):
                raise
            if len(index) == 1:
                raise HeadatlasError(
                    f"not enough memory for one prompt of {len(batch[0].tokens)} tokens; "
                    "give shorter prompts, or open the model in a smaller dtype"
                ) from None
            half = len(index) // 2
            waiting[:0] = [index[:half], index[half:]]
            notes.append(f"not enough memory for {len(index)} prompts at once; they ran in halves")
    return _of_all(found, notes)


def run_together(task: SweepTask, prompts: Sequence[Prompt], memory: int | None) -> SweepResult:
    """Run a task over all prompts, those of several lengths together if the last positions are edited.

    Raises:
        HeadatlasError: as in `run_sweep`.
    """

    def apart() -> SweepResult:
        return run_sweep(task, prompts, False, lambda part: reuse(part, memory))

    every = [index for index, _ in batches(task.model, prompts, lambda prompt: len(prompt.readouts))]
    chosen = task.positions
    at_the_end = all(each < 0 for each in chosen) if not isinstance(chosen, str) else chosen == "last"
    if not at_the_end or len(every) == 1:
        return apart()
    vocabulary, found = tokens_read(task.model, task.metric, prompts), list[tuple[list[int], SweepResult]]()
    while every:
        held = np.cumsum([len(index) * len(prompts[index[0]].tokens) for index in every])
        count = max(1, int(np.searchsorted(held, TOGETHER, "right")))
        group, every = every[:count], every[count:]
        try:
            with only_logits_of(task.model, vocabulary):
                made = [_prepared(task, index, [prompts[each] for each in index], vocabulary) for index in group]
                results = reuse_together([part for part, _ in made], memory, [None for _ in made])
        except RuntimeError as error:
            if not short_of_memory(error):
                raise
            return apart()
        found += [
            (index, replace(each, sources=sources))
            for index, each, (_, sources) in zip(group, results, made, strict=True)
        ]
    return _of_all(found, ())


def _of_all(parts: Sequence[tuple[list[int], SweepResult]], notes: Iterable[str]) -> SweepResult:
    """The results of batches as one, given the indices of their prompts."""
    order = np.argsort([number for index, _ in parts for number in index])

    def joined(each: Iterable[Array]) -> Array:
        whole: Array = np.concatenate(list(each), -1)[..., order]
        return whole

    return SweepResult(
        joined(part.clean for _, part in parts),
        joined(part.ablated for _, part in parts),
        tuple(sorted({way for _, part in parts for way in part.ways})),
        tuple(dict.fromkeys((*notes, *(note for _, part in parts for note in part.notes)))),
        joined(part.sources for _, part in parts),
    )


def _batch(
    task: SweepTask,
    index: Sequence[int],
    batch: Sequence[Prompt],
    minus_corrupted: bool,
    how: Callable[[SweepBatch], SweepResult],
) -> SweepResult:
    vocabulary = tokens_read(task.model, task.metric, batch)
    with only_logits_of(task.model, vocabulary):
        part, sources = _prepared(task, index, batch, vocabulary)
        found = replace(how(part), sources=sources)
        if not minus_corrupted:
            return found
        corrupted = stack_tokens([prompt.corrupted for prompt in batch])
        other = how(replace(part, tokens=corrupted, task=replace(task, progress=None)))
    notes = (*found.notes, *other.notes)
    return replace(found, clean=found.clean - other.clean, ablated=found.ablated - other.ablated, notes=notes)


def _prepared(
    task: SweepTask, index: Sequence[int], batch: Sequence[Prompt], vocabulary: Tensor | None
) -> tuple[SweepBatch, Array]:
    """A batch of a sweep, and the behaviour of the sources of its prompts, [replacement prompt]."""
    at = edited_positions(task.positions, len(batch[0].tokens))
    readouts = readouts_among(vocabulary, batch)
    references, sources = zip(*(_reference(task, each, index, readouts) for each in task.replacements), strict=True)
    tokens = stack_tokens([prompt.tokens for prompt in batch])
    return SweepBatch(task, tokens, readouts, references, at), np.stack(sources)


def _reference(
    task: SweepTask, replacement: Replacement, index: Sequence[int], readouts: Readouts
) -> tuple[ZValues, Array]:
    """The replacement z of a batch, and the behaviour of its sources, [prompt]; NaN where they are not its own."""
    if not replacement.of_own_sources:
        return replacement.of(index), np.full(len(index), np.nan)
    z, logits = record_z_and_logits(task.model, replacement.tokens(index), readouts[0])
    return z, read_metric(task.metric, logits[None], readouts)[0]
