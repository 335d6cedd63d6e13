"""Other content of the survey: taxonomy, errata, terms, viewpoints and outlook."""

from typing import Annotated, Literal

from pydantic import Field

from headatlas.catalog.schema.base import (
    CitationKey,
    Depth,
    GroupId,
    Id,
    PlacedBy,
    Sourced,
    StageId,
    Strict,
    Text,
    TopicPart,
)


class Part(Sourced):
    """A part of a group in the survey's text, such as the heads that recognise a task."""

    id: Id
    name: Text
    summary: Text
    heads: Annotated[tuple[Id, ...], Field(min_length=1)]
    rests_on: CitationKey | None = Field(None, description="The source from which the survey has the division.")


class Group(Strict):
    """A group of a stage, with the survey's head types in the survey's order."""

    id: GroupId
    name: Text
    heads: tuple[Id, ...]
    parts: tuple[Part, ...] = Field((), description="The group's parts, if the survey divides it further.")

    def part_of(self, head: str) -> Part | None:
        """The part with this head type; None if no part has it."""
        return next((part for part in self.parts if head in part.heads), None)


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


class DepthColumn(Strict):
    """The head types at one place along the depth, from the first layer to the last."""

    layers: Annotated[tuple[Depth, ...], Field(min_length=1)] = Field(
        description="One depth, or the two between whose labels the names are drawn."
    )
    heads: Annotated[tuple[Id, ...], Field(min_length=1)]


class DepthFigure(Sourced):
    """The survey's figure of stages and layers: where it draws each of its head types."""

    reading: Text = Field(description="How the drawing was read.")
    columns: Annotated[tuple[DepthColumn, ...], Field(min_length=1)]
    not_drawn: tuple[Id, ...] = Field((), description="Head types of the survey that the figure leaves out.")

    def layers_of(self, head: str) -> tuple[Depth, ...]:
        """The depths of a head type; empty if the figure leaves it out."""
        return next((column.layers for column in self.columns if head in column.heads), ())


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
    topics: tuple[Id, ...] = ()
    depths: DepthFigure | None = None

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
    forms: tuple[Text, ...] = Field(
        (),
        description="Other wordings of the term in prose; pages link the first use. A form in lower case also matches "
        "with a capital first letter, and every form also matches with a final s.",
    )
    elsewhere: Text | None = Field(None, description="Where a reader meets the term, if no entry uses it in prose.")
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


class Topic(Sourced):
    """Other content of the survey: what lies beside attention heads, its scope, its models, surveys before it."""

    id: Id
    part: TopicPart
    name: Text
    statement: Text = Field(description="What the source says.")
    survey: Text | None = Field(None, description="What the survey says of the source, if the source is another.")
    here: Text | None = Field(None, description="What this catalog does about it, or has on it.")
    caution: Text | None = Field(None, description="What the source does not show, in our words.")
    cites: tuple[CitationKey, ...] = Field((), description="Other sources that the statement names.")
    heads: tuple[Id, ...] = Field((), description="Head types concerned.")


class Topics(Strict):
    """catalog/topics.yaml."""

    topics: tuple[Topic, ...]
