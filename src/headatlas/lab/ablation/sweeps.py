"""The exact effect of every head on a behaviour: each ablated, or patched from another run, one at a time.

Three ways, equal but for rounding: "naive" runs the whole model once per head; "layers" runs it from the head's layer
on, all heads of a layer at once; "tokens" also leaves out the positions before the first edited one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from headatlas.lab.ablation.replacement import AblationKind, EditPositions, Patch, Replacement
from headatlas.lab.ablation.sources import Reference
from headatlas.lab.ablation.sweep_engine import SweepBatch, SweepResult, SweepTask, Way, naive, reuse, run_sweep
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import Array, OnDone
from headatlas.lab.running.metrics import Metric
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Sweep:
    """What a behaviour becomes when each head is ablated alone.

    Attributes:
        clean: [prompt], untouched.
        ablated: [layer head prompt]; NaN for heads that were not asked for, or do not exist.
        ways: how it was computed: "naive", "layers", "tokens"; more than one where prompts differ in length.
        notes: what was not as usual, in words: a slower way was taken, or memory was short.
    """

    clean: Array
    ablated: Array
    ways: tuple[Way, ...]
    notes: tuple[str, ...]

    @property
    def effect(self) -> Array:
        """What the ablation changes: [layer head prompt], ablated minus clean."""
        return self.ablated - self.clean

    @property
    def effect_per_prompt(self) -> Array:
        """The same, as scores are ordered: [prompt layer head]."""
        return self.effect.transpose(2, 0, 1)


def sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Metric,
    ablation: AblationKind | Reference | Patch = "mean",
    positions: EditPositions = "all",
    heads: Iterable[Head] | None = None,
    contrast: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> Sweep:
    """Ablate every head in turn and read the behaviour, computing only what the ablation can change.

    Args:
        model: what to run.
        prompts: with readouts.
        behaviour: what to read from the logits.
        ablation: what a head's z becomes. 'mean': its mean over the sources, all positions but the first;
            'position mean': its mean over the sources of the prompt's length, at each position; 'resample': its z at
            the same position of the prompt's own source, which is patching; 'zero': nothing; a Reference that fits
            every prompt; or a Patch, which makes one for each batch of prompts.
        positions: where it is replaced: 'all', 'last', or positions counted from 0, or from the end where negative.
        heads: which; all by default.
        contrast: read the behaviour as prompt minus corrupted prompt, the head ablated in both.
        source: the other run: one token list per prompt, of its length; the corrupted prompts by default.
        memory: bytes that the activations of one rerun may take; by default 128 MiB on a CPU, half of what is free
            on an accelerator.
        progress: called with the number of (head, prompt) pairs that have been done since.

    Raises:
        HeadatlasError: where prompts have no readouts, a position or source does not fit, logits are not finite, or
            memory is too short for a single prompt.
        ValueError: for no prompts, no heads, or heads the model does not have.
    """
    sets = _alone(model, heads)
    task = SweepTask(model, behaviour, sets, Replacement(model, prompts, ablation, source), positions, progress)
    return _sweep(task, prompts, contrast, lambda part: reuse(part, memory))


def naive_sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Metric,
    ablation: AblationKind | Reference | Patch = "mean",
    positions: EditPositions = "all",
    heads: Iterable[Head] | None = None,
    contrast: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    progress: OnDone | None = None,
) -> Sweep:
    """The same by one full run of the model per head: slow, and nothing in it can be wrong. Arguments as in `sweep`."""
    sets = _alone(model, heads)
    task = SweepTask(model, behaviour, sets, Replacement(model, prompts, ablation, source), positions, progress)
    return _sweep(task, prompts, contrast, naive)


def ablate_sets(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Metric,
    sets: Sequence[Sequence[Head]],
    ablation: AblationKind | Reference | Patch = "mean",
    positions: EditPositions = "all",
    contrast: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> Array:
    """The behaviour with each set of heads ablated together, computing only what the set can change.

    Arguments as in `sweep`; an empty set stands for the untouched model.

    Returns:
        [set prompt]

    Raises:
        HeadatlasError, ValueError: as in `sweep`.
    """
    unique = [tuple(sorted(set(heads))) for heads in sets]
    model.anatomy.require(head for heads in unique for head in heads)
    order = sorted((number for number, heads in enumerate(unique) if heads), key=lambda number: unique[number][0])
    if not order:
        raise ValueError("no heads to ablate; give at least one set that is not empty")
    chosen = [unique[number] for number in order]
    task = SweepTask(model, behaviour, chosen, Replacement(model, prompts, ablation, source), positions, progress)
    found = run_sweep(task, prompts, contrast, lambda part: reuse(part, memory))
    values: Array = np.tile(found.clean, (len(sets), 1))
    values[order] = found.ablated
    return values


def _alone(model: OpenModel, heads: Iterable[Head] | None) -> list[tuple[Head, ...]]:
    """Each head as a set of its own, ascending; all of the model's by default."""
    chosen = model.anatomy.all_heads if heads is None else sorted(set(heads))
    if not chosen:
        raise ValueError("no heads to sweep; give at least one")
    model.anatomy.require(chosen)
    return [(head,) for head in chosen]


def _sweep(
    task: SweepTask, prompts: Sequence[Prompt], contrast: bool, how: Callable[[SweepBatch], SweepResult]
) -> Sweep:
    found = run_sweep(task, prompts, contrast, how)
    anatomy = task.model.anatomy
    ablated = np.full((anatomy.layers, anatomy.heads, len(prompts)), np.nan)
    layers, heads = np.array([head for (head,) in task.sets]).T
    ablated[layers, heads] = found.ablated
    return Sweep(found.clean, ablated, found.ways, found.notes)
