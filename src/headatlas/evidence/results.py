"""All records of a folder, each with what was expected and what has changed since."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headatlas.catalog.catalog import Catalog
from headatlas.errors import HeadatlasError
from headatlas.evidence import records
from headatlas.evidence.freshness import Present
from headatlas.evidence.records import Record


@dataclass(frozen=True)
class Result:
    """A record as it stands today.

    Attributes:
        record: of the run.
        expected: the verdict that the entry expected on this model before the run, where it says.
        changed: what has changed since: 'rule', 'script', 'stimuli', 'weights'.
    """

    record: Record
    expected: str | None
    changed: tuple[str, ...]

    @property
    def day(self) -> str:
        """When it ran, as YYYY-MM-DD."""
        return self.record.environment.started[:10]

    @property
    def stable(self) -> tuple[int, int]:
        """Of the prompt families and further seeds, how many have the verdict of the whole, and how many there are."""
        label, stability = self.record.verdict.label, self.record.stability
        others = [*stability.families.values(), *list(stability.seeds.values())[1:]]
        return sum(other == label for other in others), len(others)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        same, of = self.stable
        return {
            "entry": self.record.entry.id,
            "model": self.record.model.id,
            "verdict": self.record.verdict.label,
            "expected": self.expected,
            "heads": [str(head) for head in self.record.selected],
            "did_not_hold": self.record.detection.did_not_hold if self.record.detection else [],
            "reasons": self.record.verdict.reasons,
            "same_verdict_in": {"families_and_seeds": same, "of": of},
            "day": self.day,
            "changed_since": list(self.changed),
        }


def collect(catalog: Catalog, folder: Path, models: Sequence[str] | None = None) -> tuple[list[Result], list[str]]:
    """Every readable record below a folder, and one line for each that is damaged.

    Args:
        catalog: for expectations and for what has changed.
        folder: with <model>/<entry>.json.
        models: ids, where not all are wanted.
    """
    found, damaged, present = [], [], Present(catalog)
    for path in records.paths_in(folder):
        if models and path.parent.name not in models:
            continue
        try:
            record = records.read(path)
        except HeadatlasError as error:
            damaged.append(str(error))
            continue
        entry = catalog.heads.get(record.entry.id)
        expected = (
            [e.verdict for e in entry.reproduction.expected if e.model == record.model.catalog_id] if entry else []
        )
        changed = tuple(present.changes(record))
        found.append(Result(record, expected[0] if expected else None, changed))
    return found, damaged
