"""What became of one finding among many that were rerun."""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.records import Record


@dataclass(frozen=True)
class Outcome:
    """What became of one finding.

    Attributes:
        entry: id of the head type.
        path: of the record, where there is one.
        record: of the run, or of the earlier run that still holds.
        kept: whether it is of an earlier run.
        error: one line, where the run failed.
    """

    entry: str
    path: Path | None = None
    record: Record | None = None
    kept: bool = False
    error: str | None = None
