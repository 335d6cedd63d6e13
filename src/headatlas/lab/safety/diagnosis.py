"""The doctor's result: checks with verdicts, and a conclusion."""

from dataclasses import dataclass
from typing import Literal

CheckVerdict = Literal["pass", "note", "fail"]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: of the check.
        verdict: a note is worth knowing but makes no measurement wrong.
        detail: a sentence fragment describing what was found.
        figure: the largest relative deviation from the expected values, if the check measures one.
    """

    name: str
    verdict: CheckVerdict
    detail: str
    figure: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """The result of an examination.

    Attributes:
        model: the name or path the user gave.
        architecture: the class of the model, if it was loaded.
        checks: in the order they ran; a model that failed to open has one, its failure.
    """

    model: str
    architecture: str | None
    checks: tuple[Check, ...]

    @property
    def safe(self) -> bool:
        """Whether no check failed."""
        return all(check.verdict != "fail" for check in self.checks)

    @property
    def conclusion(self) -> str:
        """A one-line summary."""
        if failed := [check.name for check in self.checks if check.verdict == "fail"]:
            return f"{self.model} is not safe to measure: {', '.join(failed)}"
        notes = sum(check.verdict == "note" for check in self.checks)
        return f"{self.model} is safe to measure" + (
            f"; read the {notes} notes" if notes > 1 else "; read the note" if notes else ""
        )
