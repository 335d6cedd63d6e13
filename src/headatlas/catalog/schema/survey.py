"""What the survey gives beside head types: its taxonomy, its errata, its terms, viewpoints and outlook."""

from typing import Annotated, Literal

from pydantic import Field

from headatlas.catalog.schema.base import CitationKey, GroupId, Id, PlacedBy, Sourced, StageId, Strict, Text


class Group(Strict):
    """A group of a stage, with the head types the survey puts there, in its order."""

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
        """The group of that id. Raises KeyError where there is none."""
        return {group.id: group for group in self.groups}[id]  # type: ignore[index]


class Family(Strict):
    """A family of methods or benchmarks, such as those the survey calls modeling-free, replacement-based."""

    id: Id
    name: Text
    placed_by: PlacedBy = "survey"
    members: tuple[Id, ...]


class Taxonomy(Strict):
    """catalog/taxonomy.yaml: the closed vocabulary, and what the catalog must cover."""

    source: CitationKey
    stages: tuple[Stage, ...]
    beyond: tuple[Id, ...] = Field(description="Head types the survey lacks; each entry says where we place it.")
    methods: tuple[Family, ...]
    benchmarks: tuple[Family, ...]
    circuits: tuple[Id, ...]
    parallels: tuple[Id, ...]
    glossary: tuple[Id, ...]
    limitations: tuple[Id, ...]
    directions: tuple[Id, ...]

    def stage(self, id: str) -> Stage:
        """The stage of that id. Raises KeyError where there is none."""
        by_id: dict[str, Stage] = {stage.id: stage for stage in self.stages}
        return by_id[id]

    @property
    def survey_heads(self) -> dict[str, tuple[StageId, GroupId]]:
        """Stage and group of each head type of the survey, in its order."""
        return {head: (stage.id, group.id) for stage in self.stages for group in stage.groups for head in group.heads}


class Statement(Sourced):
    """What one source says."""

    text: Text


class Erratum(Strict):
    """Where the survey and the papers it cites disagree."""

    id: Id
    heads: tuple[Id, ...] = Field((), description="The head types it is about.")
    claim: Statement = Field(description="What the survey, or the reading list that goes with it, says.")
    correction: Statement = Field(description="What the primary source says.")
    note: Text | None = None


class Errata(Strict):
    """catalog/errata.yaml."""

    errata: tuple[Erratum, ...]


class Parallel(Sourced):
    """A viewpoint on language models and human minds that the survey gathers."""

    id: Id
    name: Text
    statement: Text
    caution: Text | None = Field(None, description="What the source does not show; our words.")
    heads: tuple[Id, ...] = ()


class Parallels(Strict):
    """catalog/parallels.yaml."""

    parallels: tuple[Parallel, ...]


class Term(Strict):
    """A term of the field, defined so that it can be computed."""

    id: Id
    name: Text
    definition: Text
    formula: Text | None = Field(None, description="How it is computed: words, and LaTeX between two $.")
    see: tuple[Id, ...] = Field((), description="Related terms.")
    sources: Annotated[tuple[CitationKey, ...], Field(min_length=1)]


class Glossary(Strict):
    """catalog/glossary.yaml."""

    glossary: tuple[Term, ...]


class Limitation(Sourced):
    """A limitation of the field that the survey names, and what this project measures about it."""

    id: Id
    name: Text
    statement: Text
    answer: Text = Field(description="What headatlas measures about it; never more than it does.")


class Limitations(Strict):
    """catalog/limitations.yaml."""

    limitations: tuple[Limitation, ...]


class Direction(Sourced):
    """A direction for future work that the survey names."""

    id: Id
    name: Text
    statement: Text


class Directions(Strict):
    """catalog/directions.yaml."""

    directions: tuple[Direction, ...]
