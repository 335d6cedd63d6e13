"""Ablates sets of heads one after the other, computing only what each set can change."""

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakSet

import numpy as np
from torch import nn

from headatlas.arrays import Array
from headatlas.lab.ablation.batched_copies import CopiesInBatch, copies_per_run, copy_edit_hook, short_of_memory
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.ablation.mixed_lengths import from_the_end, joined_parts, joined_runs
from headatlas.lab.ablation.partial_rerun import (
    active_hooks,
    failure_message,
    rerun_from,
    unedited_problem,
    why_not_partial,
)
from headatlas.lab.ablation.sweep_task import HeadSet, SweepBatch, SweepResult, Way
from headatlas.lab.running.forward import forward

_ROWS = 64  # passes with fewer tokens spend more time reading weights than computing
IN_A_ROW = 256  # tokens of copies sharing one KV cache; masking them from each other costs the square of this
_apart: WeakSet[nn.Module] = WeakSet()  # models whose prompts of several lengths must not be joined


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


def first_position(part: SweepBatch) -> int:
    """The first position that reruns must compute; 0 if skipping would not pay."""
    first, length = int(part.at[0]), part.tokens.shape[1]
    return first if skipping_pays(first, length) else 0


def skipping_pays(first: int, length: int) -> bool:
    """Whether to skip the positions before `first`; skipping few of them costs more (masking) than it saves."""
    return 2 * (length - first) <= length


def reuse(part: SweepBatch, memory: int | None, clean: CleanRun | None = None) -> SweepResult:
    """Ablate many sets per rerun, from the first layer and position they change; in full runs if that is unreliable.

    The clean run may be given, if it holds keys and values.
    """
    model, notes = part.task.model, list[str]()
    for start in dict.fromkeys((first_position(part), 0)):
        problem = active_hooks(model)
        if problem is None:
            try:
                run = run_clean(model, part.tokens, part.readouts[0], start) if clean is None else clean
                run = replace(run, start=start)
                problem = why_not_partial(model, run)
                if problem is None:
                    found = _rerun_all(part, run, memory)
                    return replace(found, notes=(*notes, *found.notes))
            except (RuntimeError, IndexError) as error:  # any failure inside a family's code; fall back to full runs
                if isinstance(error, RuntimeError) and short_of_memory(error):
                    raise
                problem = failure_message(error)
        skipped = "positions" if start else "layers"
        notes.append(f"no {skipped} of {model.name} were skipped: {problem}")
    return replace(naive(part), notes=tuple(notes))


def reuse_together(
    parts: Sequence[SweepBatch], memory: int | None, cleans: Sequence[CleanRun | None]
) -> list[SweepResult]:
    """`reuse` for parts of one task, whose prompts differ in length; those alike at their ends are rerun together.

    Args:
        parts: with the same columns of logits.
        memory: as in `sweep`.
        cleans: the clean run of each, if it is known and holds keys and values.
    """
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for number, part in enumerate(parts):
        groups.setdefault(from_the_end(part, first_position(part)), []).append(number)
    found: dict[int, SweepResult] = {}
    for numbers in groups.values():
        mine, runs = [parts[number] for number in numbers], [cleans[number] for number in numbers]
        together = _joined(mine, memory, runs) if len(mine) > 1 and first_position(mine[0]) else None
        if together is None:
            together = [reuse(part, memory, run) for part, run in zip(mine, runs, strict=True)]
        found |= dict(zip(numbers, together, strict=True))
    return [found[number] for number in range(len(parts))]


def _joined(
    parts: Sequence[SweepBatch], memory: int | None, cleans: Sequence[CleanRun | None]
) -> list[SweepResult] | None:
    """The results of parts whose last positions are rerun together, or None if the model does not bear that."""
    model, starts = parts[0].task.model, [first_position(part) for part in parts]
    if active_hooks(model) or model.model in _apart:
        return None
    try:
        runs = [
            replace(run or run_clean(model, part.tokens, part.readouts[0], start), start=start)
            for part, run, start in zip(parts, cleans, starts, strict=True)
        ]
        joined = joined_runs(runs)
        longest = max(runs, key=lambda run: run.tokens.shape[1])
        if why_not_partial(model, longest) or unedited_problem(model, joined):
            _apart.add(model.model)
            return None
        whole = _rerun_all(joined_parts(parts, joined), joined, memory)
    except (RuntimeError, IndexError) as error:
        if isinstance(error, RuntimeError) and short_of_memory(error):
            raise
        _apart.add(model.model)
        return None
    ends = np.cumsum([len(part.tokens) for part in parts])[:-1]
    each = zip(np.split(whole.clean, ends), np.split(whole.ablated, ends, 1), strict=True)
    return [replace(whole, clean=clean, ablated=ablated) for clean, ablated in each]


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
