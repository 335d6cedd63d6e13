"""What a doctor finds: checks with verdicts, and one conclusion."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "note", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        verdict: a note is something to know, which makes nothing measured wrong.
        detail: in words.
        figure: the largest relative difference between what is and what ought to be, where one was measured.
    """

    name: str
    verdict: Verdict
    detail: str
    figure: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        model: how it was asked for.
        architecture: the class of the model, where it got as far as that.
        checks: in the order they were made; a model that failed to open has one, its failure.
    """

    model: str
    architecture: str | None
    checks: tuple[Check, ...]

    @property
    def safe(self) -> bool:
        """Whether nothing failed."""
        return all(check.verdict != "fail" for check in self.checks)

    @property
    def conclusion(self) -> str:
        """One line."""
        if failed := [check.name for check in self.checks if check.verdict == "fail"]:
            return f"{self.model} is not safe to measure: {', '.join(failed)}"
        notes = sum(check.verdict == "note" for check in self.checks)
        return f"{self.model} is safe to measure" + (
            f"; mind the {notes} notes" if notes > 1 else "; mind the note" if notes else ""
        )
