"""Other content of the survey: taxonomy, errata, terms, viewpoints and outlook."""

from typing import Annotated, Literal

from pydantic import Field

from headatlas.catalog.schema.base import CitationKey, GroupId, Id, PlacedBy, Sourced, StageId, Strict, Text


class Group(Strict):
    """A group of a stage, with the survey's head types in the survey's order."""

    id: GroupId
    name: Text
    heads: tuple[Id, ...]


class Stage(Strict):
    """A stage of the four-stage framework, with its groups in order."""

    id: StageId
    name: Text
    short: Literal["KR", "ICI", "LR", "EP"]
    summary: Text
    groups: tuple[Group, ...]

    def group(self, id: str) -> Group:
        """The group with this id. Raises KeyError if there is none."""
        return {group.id: group for group in self.groups}[id]  # type: ignore[index]


class Family(Strict):
    """A family of methods or benchmarks, such as the survey's 'modeling-free, replacement-based'."""

    id: Id
    name: Text
    placed_by: PlacedBy = "survey"
    members: tuple[Id, ...]


class Taxonomy(Strict):
    """catalog/taxonomy.yaml: the closed vocabulary, and the entries that must exist."""

    source: CitationKey
    stages: tuple[Stage, ...]
    beyond: tuple[Id, ...] = Field(
        description="Head types that are not in the survey; each entry says where we place it."
    )
    methods: tuple[Family, ...]
    benchmarks: tuple[Family, ...]
    circuits: tuple[Id, ...]
    parallels: tuple[Id, ...]
    glossary: tuple[Id, ...]
    limitations: tuple[Id, ...]
    directions: tuple[Id, ...]

    def stage(self, id: str) -> Stage:
        """The stage with this id. Raises KeyError if there is none."""
        by_id: dict[str, Stage] = {stage.id: stage for stage in self.stages}
        return by_id[id]

    @property
    def survey_heads(self) -> dict[str, tuple[StageId, GroupId]]:
        """Stage and group of each head type of the survey, in its order."""
        return {head: (stage.id, group.id) for stage in self.stages for group in stage.groups for head in group.heads}


class Statement(Sourced):
    """A statement of one source."""

    text: Text


class Erratum(Strict):
    """A point on which the survey and a paper it cites disagree, or a paper and its own data or code."""

    id: Id
    heads: tuple[Id, ...] = Field((), description="The head types concerned.")
    claim: Statement = Field(description="What the survey, its reading list or a paper says.")
    correction: Statement = Field(description="What the primary source, its data or its code says.")
    note: Text | None = None


class Errata(Strict):
    """catalog/errata.yaml."""

    errata: tuple[Erratum, ...]


class Parallel(Sourced):
    """A parallel between language models and human minds from the survey."""

    id: Id
    name: Text
    statement: Text
    caution: Text | None = Field(None, description="What the source does not show, in our words.")
    heads: tuple[Id, ...] = ()


class Parallels(Strict):
    """catalog/parallels.yaml."""

    parallels: tuple[Parallel, ...]


class Term(Strict):
    """A term of the field, with a definition that can be computed."""

    id: Id
    name: Text
    definition: Text
    formula: Text | None = Field(None, description="How to compute the term: words, and LaTeX between two $.")
    see: tuple[Id, ...] = Field((), description="Related terms.")
    sources: Annotated[tuple[CitationKey, ...], Field(min_length=1)]


class Glossary(Strict):
    """catalog/glossary.yaml."""

    glossary: tuple[Term, ...]


class Limitation(Sourced):
    """A limitation of the field from the survey, and what headatlas measures about it."""

    id: Id
    name: Text
    statement: Text
    answer: Text = Field(description="What headatlas measures about this limitation, without overstatement.")


class Limitations(Strict):
    """catalog/limitations.yaml."""

    limitations: tuple[Limitation, ...]


class Direction(Sourced):
    """A direction for future work from the survey."""

    id: Id
    name: Text
    statement: Text


class Directions(Strict):
    """catalog/directions.yaml."""

    directions: tuple[Direction, ...]
