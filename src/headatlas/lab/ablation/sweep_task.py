"""What a sweep ablates, batch by batch, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.ablation.batched_copies import CopyEdit
from headatlas.lab.ablation.replacement import EditPositions, Replacement
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone, Readouts
from headatlas.lab.running.metrics import Metric
from headatlas.lab.running.readouts import read_metric
from headatlas.notation import Head

Way = Literal["naive", "layers", "tokens"]


@dataclass(frozen=True)
class SweepTask:
    """The parameters of a sweep."""

    model: OpenModel
    metric: Metric
    sets: list["HeadSet"]  # sorted by first layer
    replacements: Sequence[Replacement]
    positions: EditPositions
    progress: OnDone | None


class HeadSet(NamedTuple):
    """Heads that are ablated together, and which of the task's replacements they get."""

    heads: tuple[Head, ...]
    replacement: int = 0


@dataclass(frozen=True)
class SweepBatch:
    """One batch of a sweep: prompts of equal length, or their corrupted prompts."""

    task: SweepTask
    tokens: Tensor  # [prompt position]
    readouts: Readouts  # columns of the logits that are computed
    references: Sequence[ZValues]
    at: Tensor  # [edited], ascending
    origin: int = 0  # first position of the references

    def edit(self, sets: Sequence[HeadSet]) -> dict[int, list[CopyEdit]]:
        """The edits, by layer, that ablate one set of heads per copy."""
        pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for copy, (heads, replacement) in enumerate(sets):
            for head in heads:
                pairs.setdefault((head.layer, replacement), []).append((copy, head.head))
        edits: dict[int, list[CopyEdit]] = {}
        for (layer, replacement), chosen in pairs.items():
            new = self.references[replacement]
            edits.setdefault(layer, []).append(CopyEdit(chosen, self.at, new.z[layer], new.added, self.origin))
        return edits

    def read(self, logits: Tensor) -> Array:
        """The behaviour [copy prompt], from logits [copy prompt kept vocabulary]."""
        return read_metric(self.task.metric, logits, self.readouts)

    def done(self, sets: int) -> None:
        if self.task.progress:
            self.task.progress(sets * len(self.tokens))


@dataclass(frozen=True)
class SweepResult:
    """Behaviour of some prompts.

    Attributes:
        clean: [prompt]
        ablated: [set prompt]
        ways: how it was computed.
        notes: on anything unusual.
        sources: [replacement prompt], the behaviour of the source of each prompt, read as the prompt is; NaN for
            replacements without a source per prompt.
    """

    clean: Array
    ablated: Array
    ways: tuple[Way, ...]
    notes: tuple[str, ...] = ()
    sources: Array = field(default_factory=lambda: np.empty((0, 0)))
