"""The catalog and its queries.

This module is long because it is one class, which holds every query of the catalog.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headatlas.catalog import names, strays
from headatlas.catalog.collections import Findings, HeadTypes, Known, Naming, Namings, table
from headatlas.catalog.problems import CatalogError
from headatlas.catalog.schema import (
    FILES,
    FOLDERS,
    SCHEMA_VERSION,
    Benchmark,
    Checked,
    Circuit,
    Direction,
    Erratum,
    HeadType,
    Kind,
    Limitation,
    Method,
    Model,
    Parallel,
    PlacedBy,
    Reference,
    Stance,
    Strict,
    Taxonomy,
    Term,
    Topic,
)
from headatlas.errors import HeadatlasError
from headatlas.notation import Head

if TYPE_CHECKING:
    import networkx

    from headatlas.catalog.search import Hit, Index, Named


@dataclass(frozen=True)
class Catalog:
    """The whole catalog, by id. `references` are parsed on first use.

    Attributes:
        heads: the head types.
        methods, benchmarks, circuits, models: the entities that head types link to.
        taxonomy: the stages and groups, and the entries that must exist.
        errata, parallels, glossary, limitations, directions, topics: other content of the survey.
    """

    folder: Path
    taxonomy: Taxonomy
    heads: HeadTypes
    methods: Mapping[str, Method]
    benchmarks: Mapping[str, Benchmark]
    circuits: Mapping[str, Circuit]
    models: Mapping[str, Model]
    errata: Mapping[str, Erratum]
    parallels: Mapping[str, Parallel]
    glossary: Mapping[str, Term]
    limitations: Mapping[str, Limitation]
    directions: Mapping[str, Direction]
    topics: Mapping[str, Topic]

    # --- one entity by its name --------------------------------------------------------------------------------

    def head(self, name: str) -> HeadType:
        """The head type with this id, name or alias; ignores case and the word 'head'.

        Raises:
            HeadatlasError: if there is no such type (the message suggests similar names), or if papers use the name
                for several types (the message lists their ids).
        """
        if name in self.heads:
            return self.heads[name]
        meant = sorted(self._names.get(names.plain(name), ()))
        if len(meant) == 1:
            return self.heads[meant[0]]
        if meant:
            raise HeadatlasError(f"{name!r} could be {' or '.join(meant)}; give one of these ids")
        near = difflib.get_close_matches(names.plain(name), self._names, n=3, cutoff=0.65)
        found = dict.fromkeys(id for each in near for id in sorted(self._names[each]))
        hint = f"did you mean {' or '.join(found)}?" if found else "`headatlas list` shows all ids"
        raise HeadatlasError(f"no head type is called {name!r}; {hint}")

    @cached_property
    def _names(self) -> dict[str, set[str]]:
        return names.by_name(self.heads.values())

    def model(self, name: str) -> Model:
        """The model with this id, name or hub id; ignores case and signs: 'GPT-2' is gpt2.

        Raises:
            HeadatlasError: if there is no such model; the message suggests similar ids.
        """
        if name in self.models:
            return self.models[name]
        known = {
            each.lower(): model.id for model in self.models.values() for each in (model.id, model.name, *model.hub)
        }
        if name.lower() in known:
            return self.models[known[name.lower()]]
        bare = {id for each, id in known.items() if _bare(each) == _bare(name)}
        if len(bare) == 1:
            return self.models[bare.pop()]
        near = dict.fromkeys(known[each] for each in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5))
        hint = f"did you mean {' or '.join(near)}?" if near else f"known models: {', '.join(self.models)}"
        raise HeadatlasError(f"no finding names a model {name!r}; {hint}")

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """Every source by BibTeX key."""
        from headatlas.catalog import bibliography

        references, problems = bibliography.read(self.folder / "references.bib")
        if problems:
            raise CatalogError(problems)
        return MappingProxyType(references)

    @cached_property
    def file_ids(self) -> Mapping[str, frozenset[str]]:
        """The ids that have a file, by kind, even if the file is broken: links to it should not break too."""
        return {
            kind: frozenset(path.stem for path in strays.entries(self.folder / kind))
            for kind in ("heads", "methods", "benchmarks", "circuits", "models")
        }

    # --- questions --------------------------------------------------------------------------------------------

    def find(
        self,
        *,
        stage: str | None = None,
        group: str | None = None,
        model: str | None = None,
        method: str | None = None,
        benchmark: str | None = None,
        circuit: str | None = None,
        status: str | None = None,
        placed_by: PlacedBy | None = None,
        reproduction: bool | None = None,
        text: str | None = None,
    ) -> HeadTypes:
        """The head types that meet all conditions.

        Args:
            stage: id, name or short form ('ICI').
            group: id of a group of the survey.
            model: id or hub id of a model; some finding of the type is about this model.
            method, benchmark, circuit: ids that the type links to.
            status: how well papers support the type.
            placed_by: 'survey' for the types of the survey, 'headatlas' for all others.
            reproduction: whether a script reruns the type.
            text: words to search for, as in `search`; the best match comes first.

        Raises:
            HeadatlasError: for a value that the catalog does not have.
        """
        at = self._stage(stage) if stage else None
        _known("group", group, {each.id for part in self.taxonomy.stages for each in part.groups})
        _known("status", status, {head.status for head in self.heads.values()})
        _known("placed_by", placed_by, {"survey", "headatlas"})
        for kind, id in (("methods", method), ("benchmarks", benchmark), ("circuits", circuit)):
            _known(kind.removesuffix("s"), id, getattr(self, kind))
        about = self.model(model).id if model else None
        found: Iterable[HeadType] = (
            self.heads.values() if text is None else [hit.head_type for hit in self.search(text)]
        )
        return HeadTypes(
            head
            for head in found
            if at in (None, head.stage)
            and group in (None, head.group)
            and status in (None, head.status)
            and placed_by in (None, head.placed_by)
            and (method is None or method in head.methods)
            and (benchmark is None or benchmark in head.benchmarks)
            and (circuit is None or circuit in head.circuits)
            and reproduction in (None, head.rule is not None)
            and (about is None or about in {finding.model for finding in head.findings})
        )

    def _stage(self, name: str) -> str:
        """The id of the stage with this id, name or short form."""
        stages = self.taxonomy.stages
        ids = {each.lower(): stage.id for stage in stages for each in (stage.id, stage.name, stage.short)}
        if name.lower() not in ids:
            near = difflib.get_close_matches(name.lower(), ids, n=1)
            hint = f"did you mean {ids[near[0]]!r}?" if near else f"use one of {', '.join(each.id for each in stages)}"
            raise HeadatlasError(f"no stage is called {name!r}; {hint}")
        return ids[name.lower()]

    def search(self, text: str) -> "list[Hit]":
        """The head types that match a text, best first: names, then full text; tolerates typing errors."""
        return self._index.search(text)

    @cached_property
    def _index(self) -> "Index":
        from headatlas.catalog.search import Index

        linked: dict[str, Mapping[str, Named]] = {
            "methods": self.methods,
            "benchmarks": self.benchmarks,
            "circuits": self.circuits,
        }
        return Index(self.heads.values(), linked)

    def findings(
        self,
        *,
        model: str | None = None,
        head: Head | str | None = None,
        type: str | None = None,
        source: str | None = None,
        kind: Kind | None = None,
        stance: Stance | None = None,
        checked: Checked | None = None,
    ) -> Findings:
        """The findings that meet all conditions, over all head types.

        Args:
            model: id or hub id of a model.
            head: a head of that model, such as 'L5H5' or '5.5'.
            type: id, name or alias of a head type.
            source: a BibTeX key.
            kind, stance, checked: values of these fields.

        Raises:
            HeadatlasError: for an unknown model or type, or a head that the model does not have.
        """
        about = self.model(model) if model else None
        place = self._place(about, head) if head is not None else None
        types = [self.head(type)] if type else self.heads.values()
        return Findings(
            Known(each, finding)
            for each in types
            for finding in each.findings
            if (about is None or finding.model == about.id)
            and (place is None or place in finding.heads)
            and source in (None, finding.source)
            and kind in (None, finding.kind)
            and stance in (None, finding.stance)
            and checked in (None, finding.checked)
        )

    def _place(self, model: Model | None, head: Head | str) -> Head:
        place = Head.parse(head)
        if model and model.layers and model.heads and not (place.layer < model.layers and place.head < model.heads):
            raise HeadatlasError(
                f"{place} is not a head of {model.id}, which has {model.layers} layers of {model.heads} heads, from 0"
            )
        return place

    def who(self, model: str, head: Head | str) -> Namings:
        """The names that papers give one head of one model, best supported first; empty if no paper names the head.

        Raises:
            HeadatlasError: for an unknown model, or a head that the model does not have.
        """
        about = self.model(model)
        place = self._place(about, head)
        named = []
        for type in self.heads.values():
            findings = [each for each in type.findings if each.model == about.id and place in each.heads]
            roles = tuple(
                (circuit, role)
                for circuit in self.circuits.values()
                for role in circuit.roles
                if role.head == type.id and role.model == about.id and place in role.heads
            )
            supporting = tuple(each for each in findings if each.stance == "supports")
            disputing = tuple(each for each in findings if each.stance != "supports")
            if findings or roles:
                named.append(Naming(type, supporting, disputing, roles))
        return Namings(sorted(named, key=lambda each: (-len(each.findings), -len(each.roles), each.head_type.id)))

    # --- sources ----------------------------------------------------------------------------------------------

    def sources(self, entity: Strict) -> list[Reference]:
        """The sources of an entity, sorted by key."""
        return [self.references[key] for key in sorted(cited(entity))]

    def cite(self, ids: str | Iterable[str]) -> list[Reference]:
        """The sources of ids of any kind, names of head types, or BibTeX keys: sorted by key, each once.

        Raises:
            HeadatlasError: for an unknown id, name or key.
        """
        keys: set[str] = set()
        for id in [ids] if isinstance(ids, str) else ids:
            entities = [each[id] for each in self._entities if id in each]
            if id in self.references:
                keys.add(id)
            for entity in entities:
                keys |= cited(entity)
            if id not in self.references and not entities:
                keys |= cited(self.head(id))
        return [self.references[key] for key in sorted(keys)]

    def bibtex(self, ids: str | Iterable[str] | None = None) -> str:
        """The BibTeX entries of `cite(ids)`, or of every source, as in the bibliography."""
        found = self.cite(ids) if ids is not None else list(self.references.values())
        return "\n\n".join(reference.bibtex.strip() for reference in found) + "\n"

    @property
    def _entities(self) -> tuple[Mapping[str, Strict], ...]:
        return (
            self.heads,
            self.methods,
            self.benchmarks,
            self.circuits,
            self.models,
            self.glossary,
            self.parallels,
            self.topics,
        )

    # --- the whole --------------------------------------------------------------------------------------------

    def graph(self) -> "networkx.MultiDiGraph[str]":
        """The relations between head types, as a networkx MultiDiGraph.

        Nodes are ids, with name, stage, group and status. An edge is one relation of an entry, keyed by its type, with
        type, via, source and note.
        """
        import networkx

        graph: networkx.MultiDiGraph[str] = networkx.MultiDiGraph()
        for head in self.heads.values():
            graph.add_node(head.id, name=head.name, stage=head.stage, group=head.group, status=head.status)
        for head in self.heads.values():
            for relation in head.relations:
                graph.add_edge(head.id, relation.head, key=relation.type, **relation.model_dump(exclude={"head"}))
        return graph

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it; the bibliography without its BibTeX."""
        whole: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "taxonomy": self.taxonomy.model_dump(mode="json")}
        for kind in (*FOLDERS, *FILES, "references"):
            whole[kind] = [each.model_dump(mode="json") for each in getattr(self, kind).values()]
        return whole

    def __repr__(self) -> str:
        return f"<headatlas catalog: {len(self.heads)} head types, {len(self.findings())} findings>"

    def _repr_html_(self) -> str:
        rows = (
            [stage.name, stage.summary, ", ".join(head.id for head in self.heads.values() if head.stage == stage.id)]
            for stage in self.taxonomy.stages
        )
        return f"<p>{len(self.heads)} head types, {len(self.findings())} findings</p>" + table(
            ("stage", "what its heads do", "head types"), rows
        )


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _known(what: str, value: str | None, values: Iterable[str]) -> None:
    values = sorted(values)
    if value is not None and value not in values:
        near = difflib.get_close_matches(value, values, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(values)}"
        raise HeadatlasError(f"no {what} is called {value!r}; {hint}")


def cited(entity: Strict) -> set[str]:
    """Every BibTeX key an entity names, at any depth."""
    keys: set[str] = set()
    for name in type(entity).model_fields:
        value = getattr(entity, name)
        if name in ("source", "rests_on"):
            keys |= {value} if value else set()
        elif name in ("sources", "cites"):
            keys.update(value)
        else:
            for part in value if isinstance(value, tuple) else (value,):
                keys |= cited(part) if isinstance(part, Strict) else set()
    return keys
