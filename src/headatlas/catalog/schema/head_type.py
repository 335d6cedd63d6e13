"""A head type: what is known about one kind of attention head."""

from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, computed_field, model_validator

from headatlas.catalog.schema.base import (
    CitationKey,
    Day,
    Depth,
    GroupId,
    Id,
    PlacedBy,
    RelationType,
    StageId,
    Status,
    Strict,
    Text,
)
from headatlas.catalog.schema.finding import Finding
from headatlas.catalog.schema.published_list import PublishedList
from headatlas.catalog.schema.reproduction import Reproduction, Rule


class Alias(Strict):
    """Another name, and a source that uses it."""

    name: Text
    source: CitationKey
    also: tuple[Id, ...] = Field((), description="All other head types with this name.")


class Distinction(Strict):
    """A different head type with a similar name."""

    head: Id
    why: Text


class SurveyRow(Strict):
    """The row of this type in the survey's table of key heads, in our words."""

    input: Text
    output: Text
    layers: Annotated[tuple[Depth, ...], Field(min_length=1)]
    at: Text


class Reading(Strict):
    """A paper about this head type that no finding here uses, and its topic."""

    source: CitationKey
    about: Text


class Relation(Strict):
    """A relation of this head type to another."""

    type: RelationType
    head: Id
    via: Literal["Q", "K", "V"] | None = Field(None, description="The input of the other head that it composes with.")
    source: CitationKey
    note: Text | None = None


class Controversy(Strict):
    """A dispute, in our words, resting on findings of the same entry."""

    statement: Text
    findings: Annotated[tuple[Id, ...], Field(min_length=1)]
    core: bool = Field(
        False, description="True if the dispute is whether the type as defined exists, not about a single claim."
    )


def _show_status(schema: dict[str, Any]) -> None:
    """Exports have the computed status; `headatlas validate` refuses it in a file."""
    schema["properties"]["status"] = {
        "description": "How well papers support the type. In exports only: computed, never written in a file.",
        "enum": list(get_args(Status)),
        "readOnly": True,
        "title": "Status",
        "type": "string",
    }


class HeadType(Strict):
    """One kind of attention head: catalog/heads/<id>.yaml."""

    model_config = ConfigDict(json_schema_extra=_show_status)

    id: Id
    added: Day = Field(description="The day the entry came into the catalog.")
    name: Text
    aliases: tuple[Alias, ...] = ()
    signature: Text = Field(description="The behaviour in one line, such as [A][B] … [A] → [B].")
    summary: Text = Field(description="One sentence that a stranger to the field understands.")
    stage: StageId
    group: GroupId
    placed_by: PlacedBy = Field(
        "survey",
        description="survey: the survey places the type there; headatlas: the type is not in the survey, we placed it.",
    )
    placed_why: Text | None = Field(None, description="Only for placed_by: headatlas.")
    property_why: Text | None = Field(
        None,
        description="Why this is a property that many heads of a model have, rather than a kind of head.",
    )
    definition: Text = Field(description="What the head does, with an example, for a stranger to the field.")
    criterion: Text = Field(description="How the head is recognised: precise enough to implement.")
    qk: Text = Field(description="What the query-key circuit reads and matches.")
    ov: Text = Field(description="What the output-value circuit writes.")
    survey: SurveyRow | None = None
    findings: Annotated[tuple[Finding, ...], Field(min_length=1)]
    published_lists: tuple[PublishedList, ...] = Field(
        (), description="Lists of heads of several models. Each of their rows is read as one of the findings, too."
    )
    reading: tuple[Reading, ...] = ()
    relations: tuple[Relation, ...] = ()
    distinct_from: tuple[Distinction, ...] = ()
    controversies: tuple[Controversy, ...] = ()
    open_questions: tuple[Text, ...] = ()
    methods: tuple[Id, ...] = ()
    benchmarks: tuple[Id, ...] = ()
    circuits: tuple[Id, ...] = ()
    reproduction: Reproduction

    @model_validator(mode="after")
    def _consistent(self) -> "HeadType":
        self._read_published_lists()
        ids = [finding.id for finding in self.findings]
        if twice := sorted({each for each in ids if ids.count(each) > 1}):
            raise ValueError(f"finding ids used twice: {', '.join(twice)}; give each finding an id of its own")
        for controversy in self.controversies:
            if missing := sorted(set(controversy.findings) - set(ids)):
                raise ValueError(f"controversy names findings this entry lacks: {', '.join(missing)}")
        if (self.placed_by == "headatlas") != (self.placed_why is not None):
            raise ValueError("`placed_why:` goes with `placed_by: headatlas`, and only with it")
        if self.survey and self.placed_by != "survey":
            raise ValueError("`survey:` repeats the survey's table; this type is not in the survey")
        return self

    def _read_published_lists(self) -> None:
        """Add the rows to the findings, unless they are there, as in an exported entry."""
        rows = [finding for published in self.published_lists for finding in published.findings]
        said = [finding for finding in self.findings if finding.published_list is not None]
        if said and said != rows:
            raise ValueError(f"{said[0].id} is no row of a published list; drop `published_list:`")
        if not said:
            object.__setattr__(self, "findings", (*self.findings, *rows))  # frozen for everyone else

    @property
    def supporting(self) -> tuple[CitationKey, ...]:
        """The sources on which the status rests: they name heads of a model, or intervene, or explain a mechanism."""
        return tuple(
            sorted(
                {
                    finding.source
                    for finding in self.findings
                    if finding.stance == "supports" and (finding.heads or finding.kind in ("causal", "mechanistic"))
                }
            )
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> Status:
        """How well papers support the type, computed from the findings.

        Contested if a dispute is about the type itself; else established (three supporting sources or more),
        supported (two), single-source.
        """
        if any(controversy.core for controversy in self.controversies):
            return "contested"
        return ("single-source", "single-source", "supported", "established")[min(len(self.supporting), 3)]

    @property
    def rule(self) -> Rule | None:
        """The rule of the type's reproduction; None if `reproductions/` has no script for the type."""
        return self.reproduction.rule
