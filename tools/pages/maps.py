"""The names of every head of a model: those that papers give, and those that we measured, kept apart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.catalog.schema import Circuit, Finding, HeadType, Model, Role
from headatlas.catalog.strength import name_strength
from headatlas.census.schema import Census
from headatlas.evidence.signs import FOUND
from headatlas.notation import Head
from headatlas.protocol.results import Result

Parts = tuple[tuple[Circuit, Role], ...]


@dataclass(frozen=True)
class Name:
    """One name of one head.

    Attributes:
        type: the head type.
        papers: what papers say about it; None if no paper gives the head this name.
        measured: whether our census gives the head this name, or our runs, if the model has no census.
    """

    type: HeadType
    papers: Naming | None
    measured: bool

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that papers report about this head as this type; findings that support the name come first."""
        return (*self.papers.findings, *self.papers.disputing) if self.papers else ()

    @property
    def contradicted(self) -> bool:
        """Whether a finding says that the head is not of this type."""
        return any(each.stance == "contradicts" for each in self.findings)

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts names: those of papers first, by their evidence."""
        return (False, *name_strength(self.papers)) if self.papers else (True,)


@dataclass(frozen=True)
class NamedHead:
    """A head with at least one name, or with a part in a circuit.

    Attributes:
        head: which head.
        names: best supported first, then those that only we measured; of these, that of the fewest heads first.
        parts: the circuits in which the head has a part that is no head type.
    """

    head: Head
    names: tuple[Name, ...]
    parts: Parts

    @property
    def papers(self) -> list[Name]:
        """The names that papers give."""
        return [each for each in self.names if each.papers]

    @property
    def published(self) -> bool:
        """Whether a paper names the head."""
        return bool(self.papers or self.parts)

    @property
    def measured(self) -> list[Name]:
        """The names that we measured."""
        return [each for each in self.names if each.measured]

    @property
    def sources(self) -> list[str]:
        """The BibTeX keys of everything that papers say about the head, sorted."""
        keys = {key for each in self.papers if each.papers for key in each.papers.sources}
        return sorted(keys | {role.source for _, role in self.parts})


@dataclass(frozen=True)
class Agreement:
    """How the heads that papers report compare with those that we measured, over types that have both.

    Only findings that support a type count. Every number counts pairs of a type and a head.

    Attributes:
        types: types that papers report in this model and that we measured in it.
        published: pairs that papers report.
        found: published pairs that we measured too.
        new: pairs of these types that we measured, and no paper reports.
        chance: published pairs that as many heads drawn at random would match on average.
    """

    types: int
    published: int
    found: int
    new: int
    chance: float

    @property
    def missing(self) -> int:
        """Published pairs that we did not measure."""
        return self.published - self.found


@dataclass(frozen=True)
class ModelMap:
    """All heads of a model, with their names.

    Attributes:
        model: the model.
        by_layer: the number of heads of each layer.
        named: the heads that have a name, by layer and index.
        source: what measured the names: 'census', 'runs', or None.
        measured: the heads of every type that was measured in this model; empty for a type of which none was found.
    """

    model: Model
    by_layer: tuple[int, ...]
    named: Mapping[Head, NamedHead]
    source: str | None
    measured: Mapping[str, frozenset[Head]]

    @property
    def total(self) -> int:
        """How many heads the model has."""
        return sum(self.by_layer)

    @property
    def columns(self) -> int:
        """The largest number of heads of a layer."""
        return max(self.by_layer)

    @cached_property
    def published(self) -> list[NamedHead]:
        """The heads that papers name."""
        return [each for each in self.named.values() if each.published]

    @cached_property
    def found(self) -> list[NamedHead]:
        """The heads that have a measured name."""
        return [each for each in self.named.values() if each.measured]

    @cached_property
    def types(self) -> list[HeadType]:
        """The types of all names, by id."""
        every = {name.type.id: name.type for each in self.named.values() for name in each.names}
        return [every[id] for id in sorted(every)]

    @property
    def agreement(self) -> Agreement | None:
        """Reported beside measured; None if no type has both."""
        reported: dict[str, set[Head]] = {}
        for each in self.named.values():
            for name in each.papers:
                if name.papers and name.papers.findings:
                    reported.setdefault(name.type.id, set()).add(each.head)
        shared = [(reported[type], heads) for type, heads in self.measured.items() if type in reported]
        if not shared:
            return None
        return Agreement(
            types=len(shared),
            published=sum(len(papers) for papers, _ in shared),
            found=sum(len(papers & ours) for papers, ours in shared),
            new=sum(len(ours - papers) for papers, ours in shared),
            chance=sum(len(papers) * len(ours) for papers, ours in shared) / self.total,
        )

    def beside(self, head: Head) -> tuple[Head | None, Head | None]:
        """The named heads before and after a head."""
        heads = list(self.named)
        place = heads.index(head)
        return heads[place - 1] if place else None, heads[place + 1] if place + 1 < len(heads) else None


def model_maps(catalog: Catalog, results: Sequence[Result], censuses: Iterable[Census]) -> dict[str, ModelMap]:
    """The map of every model of the catalog in which at least one head has a name.

    Args:
        catalog: what papers report.
        results: recorded runs, with the ids of the catalog's models.
        censuses: recorded censuses, with the ids of the catalog's models. A census has precedence over runs.
    """
    by_model = {census.model.id: census for census in censuses}
    made = {}
    for id, model in catalog.models.items():
        runs = [each for each in results if each.record.model.id == id]
        if each := _map(catalog, model, runs, by_model.get(id)):
            made[id] = each
    return made


def _map(catalog: Catalog, model: Model, runs: Sequence[Result], census: Census | None) -> ModelMap | None:
    record = census.model if census else runs[0].record.model if runs else None
    counts = record.by_layer if record else [model.heads or 0] * (model.layers or 0)
    measured = _of_census(census) if census else _of_runs(runs)
    heads = {head for finding in _findings(catalog, model.id) for head in finding.heads}
    heads |= {head for _, role in _roles(catalog, model.id) for head in role.heads}
    heads |= {head for found in measured.values() for head in found}
    if not heads or not model.layers:  # the toy models of methods share an id, and have no common shape
        return None
    named = {head: _named(catalog, model.id, head, measured) for head in sorted(heads)}
    source = "census" if census else "runs" if measured else None
    return ModelMap(model, tuple(counts), named, source, measured)


def _named(catalog: Catalog, model: str, head: Head, measured: Mapping[str, frozenset[Head]]) -> NamedHead:
    papers = {naming.head_type.id: naming for naming in catalog.who(model, head)}
    ours = [type for type, heads in measured.items() if head in heads and type in catalog.heads]
    names = [Name(catalog.heads[id], papers.get(id), id in ours) for id in dict.fromkeys([*papers, *ours])]
    parts = tuple((circuit, role) for circuit, role in _roles(catalog, model) if not role.head and head in role.heads)
    carried = {type: len(heads) for type, heads in measured.items()}
    names.sort(key=lambda name: (name.order, carried.get(name.type.id, 0), name.type.id))
    return NamedHead(head, tuple(names), parts)


def _findings(catalog: Catalog, model: str) -> list[Finding]:
    return [each for type in catalog.heads.values() for each in type.findings if each.model == model]


def _roles(catalog: Catalog, model: str) -> Parts:
    """The circuits of a model, with the roles of its heads."""
    circuits = catalog.circuits.values()
    return tuple((circuit, role) for circuit in circuits for role in circuit.roles if role.model == model)


def _of_census(census: Census) -> dict[str, frozenset[Head]]:
    return {
        type.id: frozenset(Head.parse(head) for head in type.heads)
        for type in census.types
        if type.status == "measured"
    }


def _of_runs(runs: Sequence[Result]) -> dict[str, frozenset[Head]]:
    """The heads of runs that reproduce a finding at least partly; others say nothing about the heads of this model."""
    records = [each.record for each in runs]
    return {record.entry.id: frozenset(record.selected) for record in records if record.verdict.label in FOUND}
