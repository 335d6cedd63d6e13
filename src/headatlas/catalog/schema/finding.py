"""A finding: one thing a source reports."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import Bound, Id, Kind, ModelId, Sourced, Stance, Text, Unit
from headatlas.notation import Head

HeadName = Annotated[str, StringConstraints(pattern=r"^L\d+H\d+$")]
Score = Annotated[float, Field(allow_inf_nan=False)]


class Finding(Sourced):
    """One thing a source reports. Its figures are the source's, never ours."""

    id: Id
    statement: Text
    kind: Kind
    stance: Stance = Field("supports", description="How it bears on the head type as defined here.")
    model: ModelId | None = Field(None, description="Id of a file in catalog/models.")
    heads: tuple[Head, ...] = ()
    scores: dict[HeadName, Score] = Field({}, description="The source's figure for each head; the keys are `heads`.")
    counts_from: Literal[0, 1] = Field(
        0, description="Number from which the source counts layers and heads. The catalog always counts from 0."
    )
    metric: Text | None = None
    formula: Text | None = Field(
        None,
        description="The exact metric, if the source or its code gives it: words, and LaTeX between two $.",
    )
    value: float | None = Field(None, allow_inf_nan=False)
    error: float | None = Field(None, ge=0, description="The source's own standard error of `value`.")
    unit: Unit | None = Field(
        None, description="Of `value`, or of `scores`. One of a closed list; a difference of logits is in nats."
    )
    bound: Bound | None = Field(
        None, description="Where the source gives no exact `value`, or no exact `scores`: only a bound, or about."
    )
    of: int | None = Field(None, gt=0, description="The total, where `value` is a part: value 4, of 10, unit heads.")
    n: int | None = Field(None, gt=0, description="Sample size.")
    tolerance: float | None = Field(
        None,
        gt=0,
        description="Only if `value` is the detection score of this entry's reproduction for its one head, or `scores` "
        "are those of its heads: the largest difference from our measurement that still counts as agreement.",
    )
    published_list: Id | None = Field(None, description="The published list that this finding is a row of.")

    @model_validator(mode="after")
    def _complete(self) -> "Finding":
        scored = tuple(Head.parse(name) for name in self.scores)
        if scored and not self.heads:
            object.__setattr__(self, "heads", scored)  # frozen for everyone else
        if scored and set(scored) != set(self.heads):
            raise ValueError("`heads:` and the keys of `scores:` differ; drop `heads:`, the scores name them")
        if self.scores and self.metric is None:
            raise ValueError("`scores:` need `metric:`, saying what was measured")
        if self.heads and self.model is None:
            raise ValueError("heads need a model: add `model:` with the id of a file in catalog/models")
        if self.value is not None and self.metric is None:
            raise ValueError("a value needs `metric:`, saying what was measured")
        if self.bound is not None and self.value is None and not self.scores:
            raise ValueError("`bound:` says how exact a `value:` or `scores:` are; add one or drop the bound")
        if self.of is not None and (self.value is None or self.unit is None or not 0 <= self.value <= self.of):
            raise ValueError("`of:` is the total that `value:` is part of; it needs a unit and a value up to it")
        if self.error is not None and self.value is None:
            raise ValueError("`error:` belongs to a `value:`; add the value or drop the error")
        if self.tolerance is not None and not self.scores and (self.value is None or len(self.heads) != 1):
            raise ValueError(
                "`tolerance:` compares scores of heads with ours; it needs `scores:`, or a value of one head"
            )
        if len(set(self.heads)) != len(self.heads):
            raise ValueError("a head is listed twice; list each head once")
        return self

    @property
    def figure(self) -> str:
        """The value with its bound, error, total and unit, such as 'at least 93%'; '' without one."""
        if self.value is None:
            return ""
        said = [self.bound or "", f"{self.value:g}"]
        said += [f"± {self.error:g}"] if self.error is not None else []
        said += [f"of {self.of}"] if self.of is not None else []
        text = " ".join(each for each in said if each)
        return f"{text}%" if self.unit == "%" else f"{text} {self.unit or ''}".strip()

    def score(self, head: Head) -> str:
        """The source's figure for one head, with its bound; '' without one."""
        figure = self.scores.get(str(head))
        return "" if figure is None else f"{self.bound or ''} {figure:g}".strip()
