"""All data of the site: the catalog, the recorded runs, and what is computed from both."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar, get_args

from headatlas import locations, specimens
from headatlas.catalog.catalog import Catalog, cited
from headatlas.catalog.loading import check
from headatlas.catalog.problems import CatalogError
from headatlas.catalog.schema import Finding, HeadType, Status, Strict, VerdictLabel
from headatlas.census.schema import Census
from headatlas.census.summary import depth
from headatlas.collaboration.schema import Collaboration
from headatlas.errors import HeadatlasError
from headatlas.evidence.records import Record
from headatlas.evidence.signs import FOUND, VERDICTS
from headatlas.notation import Head
from headatlas.pages.figures.depths import DepthPlace
from headatlas.protocol.results import Result, collect
from pages import claims

Measured = TypeVar("Measured", Record, Census, Collaboration)
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Atlas:
    """All data of the site.

    Attributes:
        catalog: the catalog.
        results: every recorded run, with the expected verdict and what has changed since.
    """

    catalog: Catalog
    results: Sequence[Result]

    @cached_property
    def models_run(self) -> list[str]:
        """The models with runs: pretrained ones that come in packages, then shipped ones, the specimen first."""
        ran = dict.fromkeys(result.record.model.id for result in self.results)
        pretrained = [id for id, model in self.catalog.models.items() if model.packages and id in ran]
        shipped = [name for name in specimens.names() if name in ran]
        return pretrained + shipped + [name for name in ran if name not in (*pretrained, *shipped)]

    @cached_property
    def leading(self) -> list[str]:
        """The models whose verdicts the site shows first: the pretrained ones with runs, or else the specimen."""
        pretrained = [id for id in self.models_run if id in self.catalog.models and self.catalog.models[id].packages]
        return pretrained or [specimens.SPECIMEN]

    def best(self, head: str) -> tuple[VerdictLabel, str] | None:
        """The best verdict of a head type on the leading models, and on which; None if it ran on none of them."""
        found = {
            self.by_place[head, model].record.verdict.label: model
            for model in reversed(self.leading)
            if (head, model) in self.by_place
        }
        return next(((label, found[label]) for label in VERDICTS if label in found), None)

    @cached_property
    def by_place(self) -> Mapping[tuple[str, str], Result]:
        """(head type, model) -> run."""
        return {(result.record.entry.id, result.record.model.id): result for result in self.results}

    def runs_of(self, head: str) -> list[Result]:
        """The runs of one head type, in the order of models."""
        return [self.by_place[head, model] for model in self.models_run if (head, model) in self.by_place]

    def runs_on(self, model: str) -> list[Result]:
        """The runs on one model, in the order of head types."""
        return [self.by_place[head, model] for head in self.catalog.heads if (head, model) in self.by_place]

    def model_name(self, id: str) -> str:
        """The name of a model."""
        return self.catalog.models[id].name if id in self.catalog.models else id

    def has_head_pages(self, model: str) -> bool:
        """Whether every named head of a model has a page; the toy models of methods share an id, and no shape."""
        return model in self.catalog.models and self.catalog.models[model].layers is not None

    def claim(self, head: str) -> str:
        """The sentence that a run of a head type tests; '' if the type has no script."""
        return claims.plain(claims.claim(head), self.catalog)

    @cached_property
    def reported(self) -> Mapping[tuple[str, str], list[Finding]]:
        """Findings that name heads, by head type and model."""
        found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for head in self.catalog.heads.values():
            for finding in head.findings:
                if finding.model and finding.heads:
                    found[head.id, finding.model].append(finding)
        return found

    def citing(self, key: str) -> list[tuple[str, str, str]]:
        """(kind, id, name) of every entity that cites a source."""
        return self._citing.get(key, [])

    @cached_property
    def _citing(self) -> Mapping[str, list[tuple[str, str, str]]]:
        found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for kind in ("heads", "methods", "benchmarks", "circuits", "models"):
            entities: Mapping[str, Strict] = getattr(self.catalog, kind)
            for id, entity in entities.items():
                for key in cited(entity):
                    found[key].append((kind, id, getattr(entity, "name", id)))
        return found

    @cached_property
    def measured_places(self) -> list[DepthPlace]:
        """Depths of the heads found, from runs with verdict reproduced or partly: one place per head type and model."""
        return [
            DepthPlace(result.record.entry.id, self.short(result.record.entry.id), depths, result.record.model.id)
            for result in self.results
            if result.record.verdict.label in FOUND
            and (depths := _depths(result.record.selected, result.record.model.layers))
        ]

    @cached_property
    def reported_places(self) -> list[DepthPlace]:
        """Depths of the heads that papers report: one place per head type and model, from supporting findings."""
        found = []
        for (head, model), findings in self.reported.items():
            layers = self.catalog.models[model].layers
            heads = {each for finding in findings if finding.stance == "supports" for each in finding.heads}
            if layers and (depths := _depths(heads, layers)):
                found.append(DepthPlace(head, self.short(head), depths, model))
        return found

    def short(self, head: str) -> str:
        """The short name of a head type's stage."""
        return self.catalog.taxonomy.stage(self.catalog.heads[head].stage).short

    def first_year(self, head: HeadType) -> int:
        """The year of the first source that supports a head type."""
        return min(int(self.catalog.references[f.source].year) for f in head.findings if f.stance == "supports")


def _depths(heads: Iterable[Head], layers: int) -> tuple[float, ...]:
    return tuple(sorted(depth(head.layer, layers) for head in heads)) if layers > 1 else ()


def gather() -> Atlas:
    """Read the catalog and all records.

    Raises:
        CatalogError, HeadatlasError: with every problem at once, if something cannot be read.
    """
    catalog, problems = check()
    if problems or catalog is None:
        raise CatalogError(problems)
    results, damaged = collect(catalog, locations.records())
    if damaged:
        raise HeadatlasError("\n".join(damaged))
    return Atlas(catalog, [replace(each, record=by_page(catalog, each.record)) for each in results])


def by_page(catalog: Catalog, measured: Measured) -> Measured:
    """What was measured, with the model's page as its id: that of the catalog, for models that come in packages.

    Elsewhere they have the name of their file, with its quantisation.
    """
    known = catalog.models.get(measured.model.catalog_id or "")
    if known is None or not known.packages:
        return measured
    return measured.model_copy(update={"model": measured.model.model_copy(update={"id": known.id})})
