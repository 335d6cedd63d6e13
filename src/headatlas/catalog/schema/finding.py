"""A finding: one thing a source reports."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import Id, Kind, ModelId, Sourced, Stance, Text
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
    unit: Text | None = None
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
        if self.error is not None and self.value is None:
            raise ValueError("`error:` belongs to a `value:`; add the value or drop the error")
        if self.tolerance is not None and not self.scores and (self.value is None or len(self.heads) != 1):
            raise ValueError(
                "`tolerance:` compares scores of heads with ours; it needs `scores:`, or a value of one head"
            )
        if len(set(self.heads)) != len(self.heads):
            raise ValueError("a head is listed twice; list each head once")
        return self
