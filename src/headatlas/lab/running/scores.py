"""Scores of every head, with their null."""

from dataclasses import dataclass, replace
from typing import Literal

from headatlas.lab.running.batches import Array


@dataclass(frozen=True)
class Scores:
    """A score of every head on every unit, and its null: what the score is where the feature under study is absent.

    A unit is a prompt, or a token for scores that are read from weights.

    Attributes:
        score: [unit layer head].
        null: [unit layer head], of the same units.
        sink: [unit layer head], the attention weight on the first position; None for scores that are not attention.
        per: what a unit is.
    """

    score: Array
    null: Array
    sink: Array | None = None
    per: Literal["prompt", "token"] = "prompt"

    def only(self, units: list[int]) -> "Scores":
        """The scores of the given units alone."""
        sink = None if self.sink is None else self.sink[units]
        return replace(self, score=self.score[units], null=self.null[units], sink=sink)
