"""All records of a folder, each with what was expected and what has changed since."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files
from headatlas.evidence.homes import TOY
from headatlas.evidence.records import Record
from headatlas.protocol.freshness import CurrentVersions


@dataclass(frozen=True)
class Result:
    """A record as it stands today.

    Attributes:
        record: of the run.
        expected: the verdict that the entry expected on this model before the run, where it says.
        changed: what has changed since, as `headatlas.protocol.freshness.CurrentVersions.changes` says.
    """

    record: Record
    expected: VerdictLabel | None
    changed: tuple[str, ...]

    @property
    def stale(self) -> tuple[str, ...]:
        """What is known to have changed."""
        return tuple(each for each in self.changed if each != "identity")

    @property
    def unidentified(self) -> bool:
        """Whether it was made before records kept what identifies a model: no run reuses it."""
        return "identity" in self.changed

    @property
    def quick(self) -> bool:
        """Whether few prompts and random sets were drawn."""
        return self.record.budget == "quick"

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
            "budget": self.record.budget,
            "day": self.day,
            "changed_since": list(self.changed),
        }


class ModelsRun(NamedTuple):
    """The models of some results: pretrained ones and a user's own, then small ones that serve as tests."""

    real: list[str]
    small: list[str]


def models_run(catalog: Catalog, results: Sequence[Result]) -> ModelsRun:
    """The ids of the models of some results; small ones are those of the catalog that lie on no hub and in no package.

    Those that ship come first among the small ones, and toys that scripts train last.
    """
    real: list[str] = []
    small: list[str] = []
    for model in {result.record.model.id: result.record.model for result in results}.values():
        known = catalog.models.get(model.catalog_id or "")
        (small if known and not (known.hub or known.packages) else real).append(model.id)
    order = [*specimens.names(), *(id for id in small if id != TOY)]
    return ModelsRun(real, sorted(small, key=lambda id: order.index(id) if id in order else len(order)))


def folders_of(catalog: Catalog, folder: Path, model: str) -> list[str]:
    """The folders of records that a model is meant by: its own name, or its id, name or hub id in the catalog."""
    folders = sorted({path.parent.name for path in record_files.paths_in(folder)})
    if model in folders:
        return [model]
    try:
        id = catalog.model(model).id
    except HeadatlasError:
        return []
    return [
        each
        for each in folders
        if (first := next(record_files.models_in(folder / each), None)) is not None and first.catalog_id == id
    ]


def told_apart(results: Sequence[Result]) -> list[str]:
    """One line for each model that has the name of another, with what differs; and one about older records."""
    models = {result.record.model.id: result.record.model for result in results}
    lines = []
    for id, model in models.items():
        first = next(each for each in models.values() if each.name == model.name)
        if first is not model:
            differs = [part for part in first.differs(model) if part != "identity"] or ["parts that were not kept"]
            lines.append(f"{id} and {first.id} are two models called {model.name}: they differ in {', '.join(differs)}")
    if count := sum(result.unidentified for result in results):
        lines.append(
            f"{count} record{'s' if count > 1 else ''} do{'' if count > 1 else 'es'} not say all that identifies the "
            "model, as newer ones do; `headatlas run --all` measures again"
        )
    return lines


def collect(
    catalog: Catalog, folder: Path, models: Sequence[str] | None = None, types: Sequence[str] | None = None
) -> tuple[list[Result], list[str]]:
    """Every readable record below a folder, and one line for each that is damaged.

    Args:
        catalog: for expectations and for what has changed.
        folder: with <model>/<entry>.json.
        models: folders, where not all are wanted.
        types: ids of head types, where not all are wanted.
    """
    found, damaged, present = [], [], CurrentVersions(catalog)
    for path in record_files.paths_in(folder):
        if (models and path.parent.name not in models) or (types and path.stem not in types):
            continue
        try:
            record = record_files.read(path)
        except HeadatlasError as error:
            damaged.append(str(error))
            continue
        entry = catalog.heads.get(record.entry.id)
        expected = (
            [e.verdict for e in entry.reproduction.expected if e.model == record.model.catalog_id] if entry else []
        )
        changed = tuple(present.changes(record))
        found.append(Result(record_files.named(record, path.parent.name), expected[0] if expected else None, changed))
    return found, damaged
