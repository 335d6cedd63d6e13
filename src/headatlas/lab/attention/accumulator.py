"""Sums of scores over many batches, that can be merged across shards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError


@dataclass
class ScoreAccumulator:
    """Means and variances of scores over sequences, and each sequence's own value for bootstraps.

    A sequence counts once however many queries or pairs it has: its value is their mean. What is kept per sequence is
    one number per head and score; nothing grows with the length of the prompts.

    Attributes:
        n: how many sequences.
        sums, squares: by name, [layer head ...] in float64.
    """

    n: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    _values: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, results: Mapping[str, Tensor]) -> None:
        """Add a batch of scores, by name: [batch layer head], or [batch layer head query ...] to be averaged.

        Raises:
            HeadatlasError: where the names are not those of earlier batches, or the batches differ in size or shape.
        """
        values = {
            name: (each.double().mean(3) if each.ndim > 3 else each.double()).cpu() for name, each in results.items()
        }
        sizes = {len(each) for each in values.values()}
        if len(sizes) != 1:
            raise HeadatlasError(f"one batch of scores has one size, got {sorted(sizes) or 'no scores'}")
        self._combine(
            ScoreAccumulator(
                sizes.pop(),
                {name: each.sum(0) for name, each in values.items()},
                {name: each.square().sum(0) for name, each in values.items()},
                {name: [each.float()] for name, each in values.items()},
            )
        )

    def merge(self, other: "ScoreAccumulator") -> "ScoreAccumulator":
        """Both together, this one's sequences first; neither is changed.

        Raises:
            HeadatlasError: where they hold different scores, or heads of different models.
        """
        merged = ScoreAccumulator()
        for each in (self, other):
            if each.n:
                merged._combine(each)
        return merged

    def mean(self, name: str) -> Tensor:
        """Over sequences: [layer head ...], float64."""
        return self.sums[name] / self.n

    def variance(self, name: str) -> Tensor:
        """Over sequences, with n - 1: [layer head ...], float64; NaN for fewer than two."""
        spread = self.squares[name] - self.sums[name].square() / self.n
        return spread.clamp_min(0) / (self.n - 1) if self.n > 1 else torch.full_like(spread, float("nan"))

    def values(self, name: str) -> Tensor:
        """Of each sequence, in the order added: [sequence layer head ...], float32."""
        return torch.cat(self._values[name])

    def _combine(self, other: "ScoreAccumulator") -> None:
        shapes, others = ({name: tuple(each.shape) for name, each in one.sums.items()} for one in (self, other))
        if self.n and shapes != others:
            raise HeadatlasError(f"scores that differ cannot be added: {shapes} and {others}")
        for name in other.sums:
            self.sums[name] = self.sums[name] + other.sums[name] if self.n else other.sums[name]
            self.squares[name] = self.squares[name] + other.squares[name] if self.n else other.squares[name]
            self._values.setdefault(name, []).extend(other._values[name])
        self.n += other.n
