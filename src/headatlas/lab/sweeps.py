"""The exact effect of every head on a behaviour: each ablated, or patched from another run, one at a time.

Three ways, equal but for rounding: "naive" runs the whole model once per head; "layers" runs it from the head's layer
on, all heads of a layer at once; "tokens" also leaves out the positions before the first edited one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.copies import Edit, Side, editing, fitting, short_of_memory
from headatlas.lab.interventions import Reference
from headatlas.lab.measuring import Array, Progress, batches, forward, readout_tensors, stack_tokens
from headatlas.lab.opening import OpenModel
from headatlas.lab.prefix import obstacle, rerun
from headatlas.lab.readouts import Behaviour
from headatlas.lab.replacing import Replacement, SweepAblation, SweepPositions, edited
from headatlas.lab.tracing import trace
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

Way = Literal["naive", "layers", "tokens"]

_ROWS = 64  # with fewer tokens in a pass, reading the weights costs more than using them
_IN_A_ROW = 256  # tokens of copies that share one past: each is masked from the others, at a cost of their square


@dataclass(frozen=True)
class Sweep:
    """What a behaviour becomes when each head is ablated alone.

    Attributes:
        clean: [prompt], untouched.
        ablated: [layer head prompt]; NaN for heads that were not asked for.
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


def sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Behaviour,
    ablation: SweepAblation | Reference = "mean",
    positions: SweepPositions = "all",
    heads: Iterable[Head] | None = None,
    contrast: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Ablate every head in turn and read the behaviour, computing only what the ablation can change.

    Args:
        model: what to run.
        prompts: with readouts.
        behaviour: what to read from the logits.
        ablation: what a head's z becomes. 'mean': its mean over the sources, all positions but the first;
            'position mean': its mean over the sources of the prompt's length, at each position; 'resample': its z at
            the same position of the prompt's own source, which is patching; 'zero': nothing; or a Reference that fits
            every prompt.
        positions: where it is replaced: 'all', 'last', or positions counted from 0.
        heads: which; all by default.
        contrast: read the behaviour as prompt minus control, the head ablated in both.
        source: the other run: one token list per prompt, of its length; the prompts' controls by default.
        memory: bytes that the activations of one rerun may take; by default 128 MiB on a CPU, half of what is free
            on an accelerator.
        progress: called with the number of (head, prompt) pairs that have been done since.

    Raises:
        HeadatlasError: where prompts have no readouts, a position or source does not fit, logits are not finite, or
            memory is too short for a single prompt.
        ValueError: for no prompts, no heads, or heads the model does not have.
    """
    task = _task(model, prompts, behaviour, ablation, positions, heads, source, progress)
    return _sweep(task, prompts, contrast, lambda part: _reuse(part, memory))


def naive_sweep(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Behaviour,
    ablation: SweepAblation | Reference = "mean",
    positions: SweepPositions = "all",
    heads: Iterable[Head] | None = None,
    contrast: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """The same by one full run of the model per head: slow, and nothing in it can be wrong. Arguments as in `sweep`."""
    return _sweep(
        _task(model, prompts, behaviour, ablation, positions, heads, source, progress), prompts, contrast, _naive
    )


@dataclass(frozen=True)
class _Task:
    """A sweep that is about to run."""

    model: OpenModel
    behaviour: Behaviour
    heads: list[Head]  # ascending
    replacement: Replacement
    positions: SweepPositions
    progress: Progress | None


@dataclass(frozen=True)
class _Part:
    """One batch of it: prompts of one length, or their controls."""

    task: _Task
    tokens: Tensor  # [prompt position]
    readouts: tuple[Tensor, Tensor, Tensor, Tensor]
    reference: Reference
    at: Tensor  # [edited], ascending

    def edit(self, chosen: Sequence[tuple[int, Head]]) -> dict[int, Edit]:
        """By layer, what replaces z of one head in each copy."""
        by_layer: dict[int, list[tuple[int, int]]] = {}
        for copy, head in chosen:
            by_layer.setdefault(head.layer, []).append((copy, head.head))
        return {layer: Edit(pairs, self.at, self.reference.z[layer]) for layer, pairs in by_layer.items()}

    def read(self, logits: Tensor) -> Array:
        """The behaviour, [copy prompt], of logits [copy prompt kept vocabulary]."""
        _, where, answers, rivals = (each.to(logits.device) for each in self.readouts)
        copies, prompts = logits.shape[:2]
        rows = torch.arange(prompts, device=logits.device)[:, None]
        chosen = logits[:, rows, where].flatten(0, 1)  # [copy*prompt readout vocabulary]
        values = self.task.behaviour(chosen, answers.repeat(copies, 1), rivals.repeat(copies, 1, 1))
        found: Array = values.reshape(copies, prompts).double().cpu().numpy()
        return found

    def done(self, heads: int) -> None:
        if self.task.progress:
            self.task.progress(heads * len(self.tokens))


@dataclass(frozen=True)
class _Found:
    """Of one batch: clean [prompt], ablated [head prompt]."""

    clean: Array
    ablated: Array
    way: Way
    notes: tuple[str, ...] = ()


def _task(
    model: OpenModel,
    prompts: Sequence[Prompt],
    behaviour: Behaviour,
    ablation: SweepAblation | Reference,
    positions: SweepPositions,
    heads: Iterable[Head] | None,
    source: Sequence[tuple[int, ...]] | None,
    progress: Progress | None,
) -> _Task:
    anatomy = model.anatomy
    everything = [Head(layer, head) for layer in range(anatomy.layers) for head in range(anatomy.heads)]
    chosen = everything if heads is None else sorted(set(heads))
    if not chosen:
        raise ValueError("no heads to sweep; give at least one")
    if unknown := set(chosen).difference(everything):
        raise ValueError(f"{min(unknown)} is not in a model of {anatomy.layers} layers x {anatomy.heads} heads")
    return _Task(model, behaviour, chosen, Replacement(model, prompts, ablation, source), positions, progress)


def _sweep(task: _Task, prompts: Sequence[Prompt], contrast: bool, how: Callable[[_Part], _Found]) -> Sweep:
    anatomy = task.model.anatomy
    clean, ablated = np.empty(len(prompts)), np.full((anatomy.layers, anatomy.heads, len(prompts)), np.nan)
    layers, heads = np.array(task.heads).T
    ways: set[Way] = set()
    notes: dict[str, None] = {}
    waiting = [index for index, _ in batches(task.model, prompts, lambda prompt: len(prompt.readouts))]
    while waiting:
        index = waiting.pop(0)
        batch = [prompts[number] for number in index]
        try:
            found = _batch(task, index, batch, contrast, how)
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
        clean[index] = found.clean
        ablated[layers[:, None], heads[:, None], np.array(index)] = found.ablated
        ways.add(found.way)
        notes |= dict.fromkeys(found.notes)
    return Sweep(clean, ablated, tuple(sorted(ways)), tuple(notes))


def _batch(
    task: _Task, index: Sequence[int], batch: Sequence[Prompt], contrast: bool, how: Callable[[_Part], _Found]
) -> _Found:
    at = edited(task.positions, len(batch[0].tokens))
    tokens, control = (
        stack_tokens([prompt.tokens for prompt in batch]),
        stack_tokens([prompt.control for prompt in batch]),
    )
    part = _Part(task, tokens, readout_tensors(batch), task.replacement.of(index), at)
    found = how(part)
    if not contrast:
        return found
    other = how(replace(part, tokens=control, task=replace(task, progress=None)))
    notes = (*found.notes, *other.notes)
    return replace(found, clean=found.clean - other.clean, ablated=found.ablated - other.ablated, notes=notes)


def _naive(part: _Part) -> _Found:
    model, keep, alone = part.task.model, part.readouts[0], Side(len(part.tokens), copies=1)
    clean = part.read(forward(model, part.tokens, {}, keep)[None])[0]
    ablated = []
    for head in part.task.heads:
        ((layer, edit),) = part.edit([(0, head)]).items()
        taps = {model.anatomy.attention[layer]: editing(alone, edit, 0)}
        ablated.append(part.read(forward(model, part.tokens, taps, keep)[None])[0])
        part.done(1)
    return _Found(clean, np.stack(ablated), "naive")


def _reuse(part: _Part, memory: int | None) -> _Found:
    first, length = int(part.at[0]), part.tokens.shape[1]
    start = first if 2 * (length - first) <= length else 0  # a short past saves less than masking the copies costs
    notes: list[str] = []
    for begin in dict.fromkeys((start, 0)):
        problem = obstacle(part.task.model, part.tokens, begin > 0)
        if problem is None:
            found = _rerun_all(part, begin, memory)
            return replace(found, notes=(*notes, *found.notes))
        skipped = "layers and positions" if begin else "layers"
        notes.append(f"no {skipped} of {part.task.model.name} were skipped: {problem}")
    return replace(_naive(part), notes=tuple(notes))


def _rerun_all(part: _Part, start: int, memory: int | None) -> _Found:
    model, heads = part.task.model, part.task.heads
    notes: list[str] = []
    clean = trace(model, part.tokens, part.readouts[0], start)
    most = _copies(part, start, memory)
    ablated: list[Array] = []
    while (done := sum(map(len, ablated))) < len(heads):
        chunk = _chunk(heads[done:], most, len(part.tokens) * (part.tokens.shape[1] - start))
        edits = part.edit(list(enumerate(chunk)))
        try:
            ablated.append(part.read(rerun(model, clean, chunk[0].layer, len(chunk), edits)))
        except RuntimeError as error:
            if len(chunk) == 1 or not short_of_memory(error):
                raise
            most = len(chunk) // 2
            notes.append(f"not enough memory for {len(chunk)} heads at once; went on with {most}")
        else:
            part.done(len(chunk))
    return _Found(
        part.read(clean.logits[None])[0], np.concatenate(ablated), "tokens" if start else "layers", tuple(notes)
    )


def _chunk(heads: Sequence[Head], most: int, rows: int) -> Sequence[Head]:
    """The next heads to run together: those of one layer, or of several where a copy has few rows."""
    for count in range(1, min(most, len(heads))):
        if heads[count].layer != heads[count - 1].layer and count * rows >= _ROWS:
            return heads[:count]
    return heads[:most]


def _copies(part: _Part, start: int, memory: int | None) -> int:
    """How many copies of the prompts one rerun may hold."""
    prompts, length = part.tokens.shape
    width, model = length - start, part.task.model
    logits: int = len(part.readouts[0]) * model.model.get_input_embeddings().weight.shape[0]
    most = fitting(model, prompts, length, width, logits, memory)
    return max(1, min(most, _IN_A_ROW // width)) if start else most
