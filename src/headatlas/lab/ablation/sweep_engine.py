"""Runs sweeps: ablates sets of heads one after the other, computing only what each set can change."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.batched_copies import (
    CopiesInBatch,
    copies_per_run,
    copy_edit_hook,
    short_of_memory,
)
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.ablation.partial_rerun import active_hooks, failure_message, rerun_from, why_not_partial
from headatlas.lab.ablation.replacement import Replacement, edited_positions
from headatlas.lab.ablation.sweep_task import HeadSet, SweepBatch, SweepResult, SweepTask, Way
from headatlas.lab.ablation.z_values import ZValues, record_z_and_logits
from headatlas.lab.running.batches import Readouts, batches, stack_tokens
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward
from headatlas.lab.running.readouts import read_metric, readouts_among, tokens_read
from headatlas.stimuli.prompts import Prompt

_ROWS = 64  # passes with fewer tokens spend more time reading weights than computing
IN_A_ROW = 256  # tokens of copies sharing one KV cache; masking them from each other costs the square of this


def run_sweep(
    task: SweepTask, prompts: Sequence[Prompt], minus_corrupted: bool, how: Callable[[SweepBatch], SweepResult]
) -> SweepResult:
    """Run a task over all prompts, batch by batch, halving batches that do not fit into memory.

    Raises:
        HeadatlasError: if memory is too short for a single prompt, or logits are not finite.
    """
    clean, ablated = np.empty(len(prompts)), np.empty((len(task.sets), len(prompts)))
    sources = np.empty((len(task.replacements), len(prompts)))
    ways: set[Way] = set()
    notes: dict[str, None] = {}
    waiting = [index for index, _ in batches(task.model, prompts, lambda prompt: len(prompt.readouts))]
    while waiting:
        index = waiting.pop(0)
        batch = [prompts[number] for number in index]
        try:
            found = _batch(task, index, batch, minus_corrupted, how)
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
            notes[f"not enough memory for {len(index)} prompts at once; they ran in halves"] = None
            continue
        clean[index], ablated[:, index], sources[:, index] = found.clean, found.ablated, found.sources
        ways |= set(found.ways)
        notes |= dict.fromkeys(found.notes)
    return SweepResult(clean, ablated, tuple(sorted(ways)), tuple(notes), sources)


def _batch(
    task: SweepTask,
    index: Sequence[int],
    batch: Sequence[Prompt],
    minus_corrupted: bool,
    how: Callable[[SweepBatch], SweepResult],
) -> SweepResult:
    at = edited_positions(task.positions, len(batch[0].tokens))
    tokens, corrupted = (stack_tokens([getattr(prompt, side) for prompt in batch]) for side in ("tokens", "corrupted"))
    vocabulary = tokens_read(task.model, task.metric, batch)
    readouts = readouts_among(vocabulary, batch)
    with only_logits_of(task.model, vocabulary):
        references, sources = zip(*(_reference(task, each, index, readouts) for each in task.replacements), strict=True)
        part = SweepBatch(task, tokens, readouts, references, at)
        found = replace(how(part), sources=np.stack(sources))
        if not minus_corrupted:
            return found
        other = how(replace(part, tokens=corrupted, task=replace(task, progress=None)))
    notes = (*found.notes, *other.notes)
    return replace(found, clean=found.clean - other.clean, ablated=found.ablated - other.ablated, notes=notes)


def _reference(
    task: SweepTask, replacement: Replacement, index: Sequence[int], readouts: Readouts
) -> tuple[ZValues, Array]:
    """The replacement z of a batch, and the behaviour of its sources, [prompt]; NaN where they are not its own."""
    if not replacement.of_own_sources:
        return replacement.of(index), np.full(len(index), np.nan)
    z, logits = record_z_and_logits(task.model, replacement.tokens(index), readouts[0])
    return z, read_metric(task.metric, logits[None], readouts)[0]


def naive(part: SweepBatch) -> SweepResult:
    """Ablate every set in its own full run of the model."""
    model, keep, alone = part.task.model, part.readouts[0], CopiesInBatch(len(part.tokens), copies=1)
    clean = part.read(forward(model, part.tokens, positions=keep)[None])[0]
    ablated = []
    for heads in part.task.sets:
        hooks = {
            model.anatomy.attention[layer]: copy_edit_hook(alone, edits, 0)
            for layer, edits in part.edit([heads]).items()
        }
        ablated.append(part.read(forward(model, part.tokens, hooks, keep)[None])[0])
        part.done(1)
    return SweepResult(clean, np.stack(ablated), ("naive",))


def reuse(part: SweepBatch, memory: int | None, clean: CleanRun | None = None) -> SweepResult:
    """Ablate many sets per rerun, from the first layer and position they change; in full runs if that is unreliable.

    The clean run may be given, if it holds keys and values.
    """
    model, first, length = part.task.model, int(part.at[0]), part.tokens.shape[1]
    start = first if 2 * (length - first) <= length else 0  # skipping few positions costs more (masking) than it saves
    notes: list[str] = []
    for begin in dict.fromkeys((start, 0)):
        problem = active_hooks(model)
        if problem is None:
            try:
                run = run_clean(model, part.tokens, part.readouts[0], begin) if clean is None else clean
                run = replace(run, start=begin)
                problem = why_not_partial(model, run)
                if problem is None:
                    found = _rerun_all(part, run, memory)
                    return replace(found, notes=(*notes, *found.notes))
            except (RuntimeError, IndexError) as error:  # any failure inside a family's code; fall back to full runs
                if isinstance(error, RuntimeError) and short_of_memory(error):
                    raise
                problem = failure_message(error)
        skipped = "positions" if begin else "layers"
        notes.append(f"no {skipped} of {model.name} were skipped: {problem}")
    return replace(naive(part), notes=tuple(notes))


def _rerun_all(part: SweepBatch, clean: CleanRun, memory: int | None) -> SweepResult:
    model, sets, start = part.task.model, part.task.sets, clean.start
    notes: list[str] = []
    most = _copies(part, clean, memory)
    ablated: list[Array] = []
    while (done := sum(map(len, ablated))) < len(sets):
        chunk = _chunk(sets[done:], most, len(part.tokens) * (part.tokens.shape[1] - start))
        edits = part.edit(chunk)
        try:
            ablated.append(part.read(rerun_from(model, clean, min(edits), len(chunk), edits)))
        except RuntimeError as error:
            if len(chunk) == 1 or not short_of_memory(error):
                raise
            most = len(chunk) // 2
            notes.append(f"not enough memory for {len(chunk)} sets of heads at once; continued with {most}")
        else:
            part.done(len(chunk))
    way: Way = "tokens" if start else "layers"
    return SweepResult(part.read(clean.logits[None])[0], np.concatenate(ablated), (way,), tuple(notes))


def _chunk(sets: Sequence[HeadSet], most: int, rows: int) -> Sequence[HeadSet]:
    """The next sets to run together: those starting in the same layer, or in several layers if copies have few rows."""
    first = [min(each.heads).layer for each in sets[:most]]
    for count in range(1, len(first)):
        if first[count] != first[count - 1] and count * rows >= _ROWS:
            return sets[:count]
    return sets[:most]


def _copies(part: SweepBatch, clean: CleanRun, memory: int | None) -> int:
    """Maximum number of copies of the prompts in one rerun."""
    prompts, length = part.tokens.shape
    width, model = length - clean.start, part.task.model
    logits: int = len(part.readouts[0]) * clean.logits.shape[-1]
    most = copies_per_run(model, prompts, length, width, logits, memory)
    return max(1, min(most, IN_A_ROW // width)) if clean.start else most
