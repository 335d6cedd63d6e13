"""Accumulates scores over many batches, mergeable across shards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError


@dataclass
class ScoreAccumulator:
    """Means and variances of scores over sequences, plus each sequence's value for bootstraps.

    A sequence's value is the mean over its queries or pairs, so every sequence counts once. Memory is one number per
    sequence, head and score, independent of prompt length.

    Attributes:
        n: number of sequences.
        sums, squares: by score name, [layer head ...] in float64.
    """

    n: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    _values: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, results: Mapping[str, Tensor]) -> None:
        """Add a batch of scores, by name: [batch layer head], or [batch layer head query ...], averaged over queries.

        Raises:
            HeadatlasError: if names or shapes differ from earlier batches, or the scores differ in batch size.
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
        """Combine two accumulators, this one's sequences first; neither is changed.

        Raises:
            HeadatlasError: if they hold different scores, or heads of different models.
        """
        merged = ScoreAccumulator()
        for each in (self, other):
            if each.n:
                merged._combine(each)
        return merged

    def mean(self, name: str) -> Tensor:
        """Mean over sequences: [layer head ...], float64."""
        return self.sums[name] / self.n

    def variance(self, name: str) -> Tensor:
        """Variance over sequences, with n - 1: [layer head ...], float64; NaN for fewer than two."""
        spread = self.squares[name] - self.sums[name].square() / self.n
        return spread.clamp_min(0) / (self.n - 1) if self.n > 1 else torch.full_like(spread, float("nan"))

    def values(self, name: str) -> Tensor:
        """Value of each sequence, in the order added: [sequence layer head ...], float32."""
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
