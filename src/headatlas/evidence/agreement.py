"""Compares the verdicts of several models, from their records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headatlas.catalog.schema import VerdictLabel
from headatlas.evidence.records import Record


@dataclass(frozen=True)
class Agreement:
    """The verdicts of some models side by side.

    Attributes:
        models: ids of the models; the first is the reference.
        labels: per entry, the verdict of each model in the order of `models`; None if the entry was not run.
    """

    models: tuple[str, ...]
    labels: dict[str, tuple[VerdictLabel | None, ...]]

    def same(self, model: str) -> tuple[int, int]:
        """(same, both): entries with the verdict of the reference, and entries run on this model and the reference."""
        place = self.models.index(model)
        both = [row for row in self.labels.values() if row[0] is not None and row[place] is not None]
        return sum(row[0] == row[place] for row in both), len(both)


def agreement(records: Iterable[Record], models: Sequence[str]) -> Agreement:
    """Put the verdicts of the given models side by side.

    Args:
        records: records of any models.
        models: ids; the first is the reference.
    """
    found: dict[str, dict[str, VerdictLabel]] = {}
    for record in records:
        found.setdefault(record.entry.id, {})[record.model.id] = record.verdict.label
    rows = {entry: tuple(labels.get(model) for model in models) for entry, labels in sorted(found.items())}
    return Agreement(tuple(models), {entry: row for entry, row in rows.items() if any(row)})
