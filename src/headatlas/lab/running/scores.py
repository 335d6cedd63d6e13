"""Scores of every head, with their null."""

from dataclasses import dataclass, replace
from typing import Literal

from headatlas.arrays import Array


@dataclass(frozen=True)
class Scores:
    """A score of every head on every unit, and its null: the score where the feature under study is absent.

    A unit is a prompt, or a token for scores computed from weights.

    Attributes:
        score: [unit layer head].
        null: [unit layer head], for the same units.
        sink: [unit layer head], the attention weight on the first position; None for scores not based on attention.
        per: what a unit is.
    """

    score: Array
    null: Array
    sink: Array | None = None
    per: Literal["prompt", "token"] = "prompt"

    def only(self, units: list[int]) -> "Scores":
        """Keep only the given units."""
        sink = None if self.sink is None else self.sink[units]
        return replace(self, score=self.score[units], null=self.null[units], sink=sink)
