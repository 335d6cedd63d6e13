"""How far the verdicts of several models agree, from their records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headatlas.evidence.records import Record


@dataclass(frozen=True)
class Agreement:
    """The verdicts of some models side by side.

    Attributes:
        models: their ids, the one that the others are held against first.
        labels: by entry, the verdict of each model, in their order; None where it was not run.
    """

    models: tuple[str, ...]
    labels: dict[str, tuple[str | None, ...]]

    def same(self, model: str) -> tuple[int, int]:
        """Of the entries run on both this model and the first, how many have one verdict, and how many there are."""
        place = self.models.index(model)
        both = [row for row in self.labels.values() if row[0] is not None and row[place] is not None]
        return sum(row[0] == row[place] for row in both), len(both)


def agreement(records: Iterable[Record], models: Sequence[str]) -> Agreement:
    """Lay the verdicts of the given models side by side.

    Args:
        records: of any models.
        models: ids, the first of which the others are held against.
    """
    found: dict[str, dict[str, str]] = {}
    for record in records:
        found.setdefault(record.entry.id, {})[record.model.id] = record.verdict.label
    rows = {entry: tuple(labels.get(model) for model in models) for entry, labels in sorted(found.items())}
    return Agreement(tuple(models), {entry: row for entry, row in rows.items() if any(row)})
