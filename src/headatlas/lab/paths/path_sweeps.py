"""Path patching of every head, each alone, with many senders in one run.

Convention and results are those of `path_patch`. With z of all heads held, no position affects another: a sender's
change at a position travels through the norms and MLPs of that position only. So the first run starts in the sender's
layer, with (corrupted z - clean z) W_O added to the attention output, and computes only the receivers' positions that
the change reaches, of prompts of any lengths together; with frozen MLPs it needs no layer at all. The second run,
needed if the receivers are heads, starts at the first receiver and at the first position that is patched.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.batched_copies import copies_per_run, short_of_memory
from headatlas.lab.activations.sites import Positions
from headatlas.lab.paths.clean_and_corrupted import PathRuns
from headatlas.lab.paths.first_run import FirstRun, Reached, Sender
from headatlas.lab.paths.path_patching import PathMetric, Receiver
from headatlas.lab.paths.path_rows import PathRows, joined, reached, rows_of
from headatlas.lab.paths.path_trials import PathTask, start_or_problem
from headatlas.lab.paths.second_run import Given, SecondRun
from headatlas.lab.running.few_logits import only_logits_of

Read = Callable[[Tensor], Tensor]  # logits [sender batch kept vocabulary] -> [sender batch]
Item = TypeVar("Item")


@dataclass(frozen=True)
class PathSweep:
    """The effect of the path from each head to the receivers on a metric.

    Attributes:
        effect: [layer head batch], metric with the head's path patched minus clean metric; NaN for heads that do not
            exist.
        notes: sentences on anything unusual.
    """

    effect: Tensor
    notes: tuple[str, ...] = ()


def path_sweep(
    runs: PathRuns,
    receivers: Iterable[Receiver] | Literal["logits"],
    metric: PathMetric,
    *,
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
    memory: int | None = None,
) -> PathSweep:
    """Patch the path from every head to the receivers, each head alone.

    Sources: wang2023interpretability, goldowskydill2023localizing.

    Args:
        runs: from `path_runs`; prompts of other lengths need their own.
        receivers: inputs of heads, patched together, or "logits".
        metric: computed from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are patched; everywhere by default.
        memory: bytes for the activations of one run; by default as in `sweep`.

    Raises:
        HeadatlasError: for positions outside the prompts, or if memory is too short for a single head.
        ValueError: for no receivers, or heads the model lacks.
    """
    ends = receivers if receivers == "logits" else tuple(receivers)
    task = PathTask(ends, sender_positions, receiver_positions, runs.mlps is not None, memory)
    part = PathPart([runs], task, lambda logits: torch.stack([metric(each) for each in logits]))
    sweep_parts([part], task)
    return PathSweep(part.effects[0], tuple(dict.fromkeys(part.notes)))


class PathPart:
    """One batch of prompts in a sweep.

    Attributes:
        effects: per source of corruption [layer head batch]; complete after `sweep_parts`.
        notes: on anything unusual.
        rows: where senders are followed; None if nothing is left to follow.
        model, vocabulary, tokens: the model, and the tokens whose logits are kept (None for all) and their number.
    """

    def __init__(self, runs: Sequence[PathRuns], task: PathTask, read: Read) -> None:
        """Prepare a batch; if its paths cannot be swept, measure them in full.

        Args:
            runs: one for each source of corruption, all of the same clean prompts.
            task: what is patched.
            read: the metric of the batch.
        """
        first, anatomy = runs[0], runs[0].model.anatomy
        anatomy.require(head for heads in task.ends.values() for head in heads)
        self.model, self.vocabulary, self.tokens = first.model, first.vocabulary, first.logits.shape[-1]
        self._read, self.prompts, (self.clean,) = read, len(first.tokens), read(first.logits[None])
        none = {layer: self.clean.new_zeros(each.heads, self.prompts) for layer, each in anatomy.shapes.items()}
        if task.heads is not None:
            for layer, head in set(anatomy.all_heads) - task.heads:
                none[layer][head] = float("nan")
        # zero where no path leads to the receivers
        self.effects, self.notes = [anatomy.stack(none, 0) for _ in runs], list[str]()
        self.rows: PathRows | None = None
        self._second: SecondRun | None = None
        at, sending = reached(first, bool(task.ends), task.sender_positions, task.receiver_positions)
        if not at.numel() or not task.senders(anatomy):
            return
        start = start_or_problem(first, task, at)
        if isinstance(start, str):
            self.notes.append(f"every path of {first.model.name} ran in full: {start}")
            self._in_full(runs, task)
            return
        self.rows = rows_of(runs, at, sending)
        self._second = SecondRun(first, task.ends, at, start) if task.ends else None

    def _in_full(self, runs: Sequence[PathRuns], task: PathTask) -> None:
        for source, each in enumerate(runs):
            for layer, heads in task.senders(self.model.anatomy).items():
                for head in heads:
                    self.note([(layer, Sender(source, head))], task.in_full(each, layer, head)[None])

    @property
    def held(self) -> int:
        """Tokens whose keys and values are held for the second run."""
        return self._second.clean.tokens.numel() if self._second else 0

    def apart(self, rows: Tensor) -> Tensor:
        """[sender row ...] -> [sender batch position ...]"""
        return rows.reshape(len(rows), self.prompts, -1, *rows.shape[2:])

    def copies(self, memory: int | None) -> int:
        """Number of copies that fit into one second run."""
        return self._second.copies(memory) if self._second else 1

    def receive(self, first: int, given: Given) -> Tensor:
        """The logits of the second run, see `SecondRun.logits`."""
        assert self._second is not None
        return self._second.logits(first, given)

    def note(self, senders: Sequence[tuple[int, Sender]], logits: Tensor) -> None:
        """Keep what the logits [sender batch kept vocabulary] say of some senders, each with its layer."""
        for (layer, sender), value in zip(senders, self._read(logits), strict=True):
            self.effects[sender.source][layer, sender.head] = value - self.clean


def sweep_parts(parts: Sequence[PathPart], task: PathTask) -> None:
    """Complete the effects of some batches; their senders are followed together."""
    if left := [part for part in parts if part.rows is not None]:
        _Sweep(left, task).run()


class _Sweep:
    """A sweep over the senders of all layers."""

    def __init__(self, parts: Sequence[PathPart], task: PathTask) -> None:
        self._parts, self._task, self._model = parts, task, parts[0].model
        every = [part.rows for part in parts if part.rows is not None]
        self._rows, self._ends = joined(every), [0, *torch.tensor(list(map(len, every))).cumsum(0).tolist()]
        self._first = FirstRun(self._model, self._rows, task.ends, task.frozen)
        self._fits = sys.maxsize  # senders that memory had room for, once it was short
        self._waiting: list[tuple[int, Sender]] = []  # followed to the receivers, each with its layer
        self._reached: list[Reached] = []

    def run(self) -> None:
        rows, memory, first = len(self._rows), self._task.memory, self._parts[0]
        kept = 1 if self._task.ends else rows * first.tokens
        most = copies_per_run(self._model, 1, rows, rows, kept, memory)
        enough = max(part.copies(memory) for part in self._parts)
        with only_logits_of(self._model, first.vocabulary):
            for layer, heads in self._task.senders(self._model.anatomy).items():
                if self._waiting and self._task.first_receiver(self._waiting[0][0]) != self._task.first_receiver(layer):
                    self._receive()
                senders = [(layer, Sender(source, head)) for head in heads for source in range(len(first.effects))]
                self._halving(senders, most, self._follow)
                if len(self._waiting) >= enough:
                    self._receive()
            self._receive()

    def _follow(self, senders: Sequence[tuple[int, Sender]]) -> None:
        """Follow senders of one layer to the receivers."""
        reached = self._first.send(senders[0][0], [sender for _, sender in senders])
        if self._task.ends:
            self._waiting += senders
            self._reached.append(reached)
            return
        for number, part in enumerate(self._parts):
            part.note(senders, part.apart(reached["logits"][:, self._of(number)]))

    def _receive(self) -> None:
        """Patch what was followed into second runs."""
        if not self._waiting:
            return
        first, senders = self._task.first_receiver(self._waiting[0][0]), self._waiting
        given = {where: torch.cat([each[where] for each in self._reached]) for where in self._reached[0]}
        self._waiting, self._reached = [], []
        for number, part in enumerate(self._parts):
            rows = self._of(number)

            def patch(chunk: Sequence[int], part: PathPart = part, rows: slice = rows) -> None:
                own = {where: part.apart(x[list(chunk), rows]) for where, x in given.items() if where != "logits"}
                part.note([senders[each] for each in chunk], part.receive(first, own))

            self._halving(range(len(senders)), part.copies(self._task.memory), patch)

    def _of(self, number: int) -> slice:
        """The rows of one of the batches."""
        return slice(self._ends[number], self._ends[number + 1])

    def _halving(self, items: Sequence[Item], most: int, work: Callable[[Sequence[Item]], None]) -> None:
        """Work on items in even chunks of `most` or fewer, or of half as many where memory is short."""
        waiting = _even(items, min(most, self._fits))
        while waiting:
            chunk = waiting.pop(0)
            try:
                work(chunk)
            except RuntimeError as error:
                if not short_of_memory(error):
                    raise
                if len(chunk) == 1:
                    prompts = sum(part.prompts for part in self._parts)
                    raise HeadatlasError(
                        f"not enough memory for the paths of one head on {prompts} prompts; give path_runs fewer "
                        "at once"
                    ) from None
                self._fits = len(chunk) // 2
                waiting[:0] = _even(chunk, self._fits)
                self._parts[0].notes.append(f"not enough memory for {len(chunk)} heads at once; they ran in halves")


def _even(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """Items in as few chunks of `most` or fewer as possible, of about the same size."""
    size = -(-len(items) // -(-len(items) // most))
    return [items[start : start + size] for start in range(0, len(items), size)]
