"""The outcome of one finding in a run of many."""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.records import Record


@dataclass(frozen=True)
class Outcome:
    """The outcome of one finding: a record, or an error.

    Attributes:
        entry: id of the head type.
        path: path of the record, if there is one.
        record: the new record, or the earlier record if it is still current.
        kept: True if the record is from an earlier run.
        error: one line, if the run failed.
    """

    entry: str
    path: Path | None = None
    record: Record | None = None
    kept: bool = False
    error: str | None = None
