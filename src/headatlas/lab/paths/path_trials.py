"""What a sweep over paths patches, and the check that it may skip layers and positions of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.lab.ablation.partial_rerun import active_hooks, failure_of
from headatlas.lab.activations.sites import Positions
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.paths.clean_and_corrupted import PathRuns
from headatlas.lab.paths.first_run import Ends, FirstRun, Sender
from headatlas.lab.paths.path_patching import Receiver, by_input, patched_logits
from headatlas.lab.paths.path_rows import reached, rows_of
from headatlas.lab.paths.second_run import SecondRun, first_position
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.notation import Head

_SENDERS = 3  # senders of a trial; with only one, mixing up senders could go unnoticed


@dataclass(frozen=True)
class PathTask:
    """What a sweep patches.

    Attributes:
        receivers: inputs of heads, patched together, or "logits".
        sender_positions, receiver_positions: where; None for everywhere.
        frozen: whether MLPs are frozen.
        memory: bytes for the activations of one run, or None.
        heads: the senders, each patched alone; None for all heads.
    """

    receivers: tuple[Receiver, ...] | Literal["logits"]
    sender_positions: Positions
    receiver_positions: Positions
    frozen: bool
    memory: int | None = None
    heads: frozenset[Head] | None = None

    @cached_property
    def ends(self) -> Ends:
        """The receivers by input; none if they are the logits."""
        return {} if self.receivers == "logits" else by_input(self.receivers)

    def senders(self, anatomy: Anatomy) -> dict[int, list[int]]:
        """The senders from which a path leads to the receivers, by layer."""
        last = max((head.layer for heads in self.ends.values() for head in heads), default=anatomy.layers)
        found: dict[int, list[int]] = {}
        for layer, head in anatomy.all_heads:
            if layer < last and (self.heads is None or Head(layer, head) in self.heads):
                found.setdefault(layer, []).append(head)
        return found

    def first_receiver(self, layer: int) -> int:
        """The first layer behind a sender's that has a receiver."""
        return min(head.layer for heads in self.ends.values() for head in heads if head.layer > layer)

    def in_full(self, runs: PathRuns, layer: int, head: int) -> Tensor:
        """Path patching of one head with full runs: [batch kept vocabulary]."""
        return patched_logits(runs, [Head(layer, head)], self.receivers, self.sender_positions, self.receiver_positions)

    def first(self, count: int) -> "PathTask":
        """The same for the first prompts of a batch."""

        def part(positions: Positions) -> Positions:
            own = None if positions is None else torch.as_tensor(positions)
            return positions if own is None or own.ndim < 2 else own[:count]

        return replace(
            self,
            sender_positions=part(self.sender_positions),
            receiver_positions=part(self.receiver_positions),
        )


class TrialForm(NamedTuple):
    """The conditions a trial is valid for; a single prompt or position can hide errors that more would show."""

    receivers: str
    frozen: bool
    prompts: int
    positions: int
    skips_positions: bool


# What is wrong with each form, by the length of the prompts, the first position computed and the logits kept.
_tried: WeakKeyDictionary[nn.Module, dict[tuple[TrialForm, int, int, int], str | None]] = WeakKeyDictionary()


def start_or_problem(runs: PathRuns, task: PathTask, at: Tensor) -> int | str:
    """The first position that the second run must compute, or why paths cannot be swept.

    A sweep must match `path_patch` for senders of the first and last layer, on two of the prompts, once for each form.
    For prompts of another length, a second run in which nothing is patched must give the clean logits.

    Args:
        runs: of a batch.
        task: what is patched.
        at: [batch reached], where.
    """
    if problem := active_hooks(runs.model):
        return problem
    if runs.model.anatomy.other_mixers:
        return "something besides attention moves information between positions"
    found = "nothing was tried"
    first = first_position(at, runs.tokens.shape[1]) if task.ends and not runs.model.anatomy.hybrid else 0
    for start in dict.fromkeys((first, 0)):
        problem = _known_problem(runs, task, at, start)
        if problem is None:
            return start
        found = problem
    return found


def _known_problem(runs: PathRuns, task: PathTask, at: Tensor, start: int) -> str | None:
    """What is wrong with sweeping this batch from a position on; tried once for each form and length."""
    ends = "".join(sorted(task.ends)) or "logits"
    form = TrialForm(ends, task.frozen, min(2, len(at)), min(2, at.shape[1]), start > 0)
    place = (form, runs.tokens.shape[1], start, len(runs.kept))
    known = _tried.setdefault(runs.model.model, {})
    if place not in known:
        passed = any(each == form and problem is None for (each, *_), problem in known.items())
        attempt = _unpatched if passed else _matches
        known[place] = failure_of(lambda: attempt(runs.first(2), task.first(2), at[:2], start))
    return known[place]


def _unpatched(runs: PathRuns, task: PathTask, at: Tensor, start: int) -> str | None:
    if not task.ends:
        return None  # the first run knows no positions
    second = SecondRun(runs, task.ends, at, start)
    layer = task.first_receiver(next(iter(task.senders(runs.model.anatomy))))
    return _gap(runs, second.unpatched(layer, _SENDERS), runs.logits, f"an unpatched run from layer {layer}")


def _matches(runs: PathRuns, task: PathTask, at: Tensor, start: int) -> str | None:
    if not all(found.plain for found in runs.trace.layers.values()):
        return "its attention output is not the output of its output projection"
    layers = list(task.senders(runs.model.anatomy))
    for layer in sorted({layers[0], layers[-1]}):
        count = min(_SENDERS, runs.model.anatomy.heads_in(layer))
        full = task.in_full(runs, layer, count - 1)
        found = _swept(runs, task, at, start, layer, [Sender(0, head) for head in range(count)])[-1]
        if problem := _gap(runs, found, full, f"a sender in layer {layer}"):
            return problem
    return None


def _swept(runs: PathRuns, task: PathTask, at: Tensor, start: int, layer: int, senders: Sequence[Sender]) -> Tensor:
    """The kept logits of one batch, [sender batch kept vocabulary]."""
    _, sending = reached(runs, bool(task.ends), task.sender_positions, task.receiver_positions)
    first = FirstRun(runs.model, rows_of([runs], at, sending), task.ends, task.frozen)
    with only_logits_of(runs.model, runs.vocabulary):
        found = {where: x.reshape(len(x), *at.shape, *x.shape[2:]) for where, x in first.send(layer, senders).items()}
    if not task.ends:
        return found["logits"]
    second = SecondRun(runs, task.ends, at, start)
    return second.logits(task.first_receiver(layer), {where: x for where, x in found.items() if where != "logits"})


def _gap(runs: PathRuns, found: Tensor, expected: Tensor, what: str) -> str | None:
    """What is wrong with logits that are not the expected ones up to rounding, or None."""
    gap = (found - expected).abs().max()
    if gap <= max(1e-5, 8 * torch.finfo(runs.model.dtype).eps) * runs.logits.abs().max():
        return None
    return f"{what} does not match path_patch (off by {gap:.1e})"
