"""The names of the heads of one model: those that papers give and those that we measured, never in one list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.catalog.schema import Model
from headatlas.catalog.strength import names_of
from headatlas.census import reading
from headatlas.census.schema import Census
from headatlas.errors import HeadatlasError
from headatlas.evidence.records import Record
from headatlas.evidence.signs import FOUND
from headatlas.notation import Head
from headatlas.protocol import results


@dataclass(frozen=True)
class MeasuredName:
    """A type that a head has by our measurement, on prompts that did not select it.

    Attributes:
        type: id of the head type.
        score, low, high: of the head, with the 95% interval.
        null: the score without the feature.
        threshold: from which a head has the type.
        cause: what interventions said; from a run, its verdict.
    """

    type: str
    score: float
    low: float
    high: float
    null: float
    threshold: float
    cause: str


@dataclass(frozen=True)
class HeadNames:
    """All names of the heads of a model.

    Attributes:
        model: its name.
        id: what commands call it.
        by_layer: the number of heads of each layer.
        reported: names that papers give, best supported first.
        measured: names that we measured, that of the fewest heads first.
        source: what was measured, such as 'census, quick budget, 2026-11-29'; '' if nothing was.
    """

    model: str
    id: str
    by_layer: tuple[int, ...]
    reported: Mapping[Head, list[Naming]]
    measured: Mapping[Head, list[MeasuredName]]
    source: str

    def require(self, head: Head) -> None:
        """Raise HeadatlasError unless the model has this head."""
        if self.by_layer and not (head.layer < len(self.by_layer) and head.head < self.by_layer[head.layer]):
            most = max(self.by_layer)
            raise HeadatlasError(
                f"{head} is not a head of {self.id}, which has {len(self.by_layer)} layers of {most} heads, from 0"
            )


def head_names(catalog: Catalog, name: str, out: Path = locations.DEFAULT_CENSUS) -> HeadNames:
    """The names of the heads of a model, from the catalog, and from a census of it or else from the runs that ship.

    Args:
        catalog: what papers report.
        name: of the model; one that the catalog does not know needs a census.
        out: folder of censuses, beside those that ship.

    Raises:
        HeadatlasError: for a model that neither the catalog knows nor a census.
    """
    place = reading.find(name, out)
    try:
        model: Model | None = catalog.model(name)
    except HeadatlasError:
        if place is None:
            raise
        model = None
    if place is None and model is not None:
        place = reading.find(model.id, out)
    reported = names_of(catalog, model.id) if model else {}
    shape = [model.heads or 0] * (model.layers or 0) if model else []
    if place:
        census = reading.read(place)
        said = f"census, {census.settings.budget} budget, {census.environment.started[:10]}"
        called, id = (model.name, model.id) if model else (census.model.name, name)
        return HeadNames(called, id, tuple(census.model.by_layer), reported, _of_census(census), said)
    assert model
    records = _records(catalog, model)
    if records:
        shape = records[0].model.by_layer
        days = sorted(each.environment.started[:10] for each in records)
        said = f"{len(records)} runs of {records[0].model.name}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"
    return HeadNames(model.name, model.id, tuple(shape), reported, _of_runs(records), said if records else "")


def _records(catalog: Catalog, model: Model) -> Sequence[Record]:
    """The runs that ship of a model; if it was run in several forms, those of the first."""
    folder = locations.records()
    homes = results.folders_of(catalog, folder, model.id)
    return [each.record for each in results.collect(catalog, folder, homes[:1])[0]] if homes else []


def _of_census(census: Census) -> dict[Head, list[MeasuredName]]:
    thresholds = {each.id: each.threshold for each in census.types}
    return {
        Head.parse(head.head): [
            MeasuredName(
                each.type, each.score, each.low, each.high, each.control, thresholds[each.type], f"cause {each.causal}"
            )
            for each in head.labels
        ]
        for head in census.heads
        if head.labels
    }


def _of_runs(records: Sequence[Record]) -> dict[Head, list[MeasuredName]]:
    """Of runs that reproduce a finding at least partly; others say nothing about the heads of this model."""
    held = sorted(
        (each for each in records if each.verdict.label in FOUND),
        key=lambda each: (len(each.selected), each.entry.id),
    )
    found: dict[Head, list[MeasuredName]] = {}
    for record in held:
        detection = record.detection
        assert detection  # such a verdict needs heads
        for head in record.selected:
            score, low, high, null = (
                grid[head.layer][head.head]
                for grid in (detection.score, detection.low, detection.high, detection.control)
            )
            verdict = f"verdict {record.verdict.label}"
            name = MeasuredName(record.entry.id, score, low, high, null, detection.threshold, verdict)
            found.setdefault(head, []).append(name)
    return dict(sorted(found.items()))
