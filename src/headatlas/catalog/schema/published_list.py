"""A published list: heads that one source gives for each of several models, by one criterion."""

from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from headatlas.catalog.schema.base import Bound, Id, Kind, ModelId, Sourced, Stance, Strict, Text, Unit
from headatlas.catalog.schema.finding import Finding, HeadName, Score
from headatlas.notation import Head

_PLACES = {"model", "count", "reach", "total", "n", "best"}


class PublishedRow(Strict):
    """The heads of one model; it is read as a finding of its own."""

    id: Id = Field(description="Id of the finding.")
    model: ModelId = Field(description="Id of a file in catalog/models.")
    model_name: Text = Field(description="The model as statements call it.")
    heads: tuple[Head, ...] = ()
    scores: dict[HeadName, Score] = Field({}, description="The source's figure for each head; the keys are `heads`.")
    file: Text | None = Field(None, description="The file of this model, where the source has one for each.")
    reach: int | None = Field(None, ge=0, description="How many heads of the model meet the criterion.")
    total: int | None = Field(None, gt=0, description="How many heads the model has.")
    n: int | None = Field(None, gt=0, description="Sample size.")
    metric: Text | None = Field(None, description="Instead of the list's, where `value` is about the whole list.")
    value: float | None = Field(None, allow_inf_nan=False)
    unit: Unit | None = None
    of: int | None = Field(None, gt=0, description="As in a finding.")
    note: Text | None = Field(None, description="What is peculiar to this model.")


class PublishedList(Sourced):
    """Heads by one criterion, of several models.

    `statement` is a sentence with places in braces: {model}, {count} (heads listed), {reach}, {total}, {n}, {best} (the
    first head listed).
    """

    id: Id
    title: Text = Field(description="What is listed; the caption of the table.")
    statement: Text
    kind: Kind
    stance: Stance = Field("supports", description="How it bears on the head type as defined here.")
    metric: Text | None = None
    formula: Text | None = Field(None, description="As in a finding.")
    unit: Unit | None = Field(None, description="As in a finding.")
    bound: Bound | None = Field(None, description="As in a finding.")
    counts_from: Literal[0, 1] = Field(0, description="As in a finding.")
    tolerance: float | None = Field(None, gt=0, description="As in a finding, for the score of each head.")
    models: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _filled(self) -> "PublishedList":
        asked = {name for _, name, _, _ in Formatter().parse(self.statement) if name is not None}
        if strange := sorted(asked - _PLACES):
            raise ValueError(f"the statement has a place {{{strange[0]}}}; choose among {', '.join(sorted(_PLACES))}")
        for row in self.models:
            if not (row.heads or row.scores):
                raise ValueError(f"{row.id} lists no heads; give `heads:` or `scores:`")
            lacking = [name for name in ("reach", "total", "n") if name in asked and getattr(row, name) is None]
            if lacking:
                raise ValueError(f"the statement has a place {{{lacking[0]}}}, and {row.id} has no `{lacking[0]}:`")
        return self

    def gives(self, field: Literal["n", "reach", "file"]) -> bool:
        """Whether the source gives this for any of the models."""
        return any(getattr(row, field) is not None for row in self.models)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """One finding for each model."""
        return tuple(self._finding(row) for row in self.models)

    def _finding(self, row: PublishedRow) -> Finding:
        named = [*row.scores] or [str(head) for head in row.heads]
        places = {"model": row.model_name, "count": len(named), "best": named[0]}
        sentence = self.statement.format(**places, reach=row.reach, total=row.total, n=row.n)
        return Finding(
            id=row.id,
            published_list=self.id,
            statement=f"{sentence} {row.note}" if row.note else sentence,
            kind=self.kind,
            stance=self.stance,
            source=self.source,
            at=f"{self.at} {row.file}" if row.file else self.at,
            checked=self.checked,
            model=row.model,
            heads=row.heads,
            scores=row.scores,
            counts_from=self.counts_from,
            metric=row.metric or self.metric,
            formula=self.formula,
            value=row.value,
            unit=row.unit or self.unit,
            bound=self.bound,
            of=row.of,
            n=row.n,
            tolerance=self.tolerance,
        )
