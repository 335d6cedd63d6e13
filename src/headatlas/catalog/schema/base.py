"""Ids, closed vocabularies, and the two base classes of the schema."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from headatlas.catalog.schema import places

SCHEMA_VERSION = 2

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
ModelId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-.][a-z0-9]+)*$", max_length=60)]
CitationKey = Annotated[str, StringConstraints(pattern=r"^[a-z]+\d{4}[a-z0-9]*$", max_length=60)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _day(value: Any) -> Any:
    """Read a date as YYYY-MM-DD only; pydantic would also accept seconds since 1970."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError(f"{value[:20]!r} is not a date; write YYYY-MM-DD")
    return date.fromisoformat(value)


Day = Annotated[date, BeforeValidator(_day)]

StageId = Literal["knowledge-recalling", "in-context-identification", "latent-reasoning", "expression-preparation"]
GroupId = Literal[
    "general-tasks",
    "specific-tasks",
    "overall-structure",
    "syntactic-information",
    "semantic-information",
    "in-context-learning",
    "effective-reasoning",
    "task-specific-reasoning",
    "information-aggregation",
    "signal-amplification",
    "instruction-alignment",
]
Depth = Literal["shallow", "middle", "deep"]
TopicPart = Literal["feed-forward", "machine-psychology", "scope", "cognitive-models", "related-surveys"]
PlacedBy = Literal["survey", "headatlas"]
Status = Literal["established", "supported", "contested", "single-source"]
Kind = Literal["mechanistic", "causal", "correlational", "behavioural"]
Stance = Literal["supports", "qualifies", "contradicts"]
Unit = Literal[
    "%",
    "percentage points",
    "fraction",
    "probability",
    "share of attention",
    "nats",
    "times",
    "BLEU",
    "heads",
    "key-value heads",
    "slices",
    "occurrences",
    "dimensions",
    "eigenvalues",
    "parameters",
    "kinds of component",
    "tokens",
    "prompts",
    "questions",
    "tasks",
    "sub-tasks",
    "models",
    "languages",
]
Bound = Literal["at least", "at most", "about"]
Checked = Literal["primary", "abstract", "secondary"]
RelationType = Literal[
    "composes-with", "feeds", "inhibits", "backs-up", "specialises", "same-as-under-task", "antagonist"
]
VerdictLabel = Literal["reproduced", "partly", "not-reproduced", "inconclusive"]


CHECKED: dict[Checked, str] = {
    "primary": "read in the body of the source, its data or its code",
    "abstract": "read in the abstract or summary of the source, not in its body",
    "secondary": "read in another's account of the source",
}


class Strict(BaseModel):
    """A frozen object that rejects unknown fields and silent conversions.

    Read it with `model_validate_json`: JSON lists become tuples, and JSON text becomes dates; nothing else is
    converted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sourced(Strict):
    """A statement of a source: which source, where in it, and how we checked."""

    source: CitationKey
    at: Text = Field(description="Section, figure, table, page or line of code in the source.")
    checked: Checked = Field(description="; ".join(f"{checked}: {how}" for checked, how in CHECKED.items()) + ".")

    @model_validator(mode="after")
    def _place(self) -> "Sourced":
        if wrong := places.fault(self.at, self.checked):
            raise ValueError(f"at: {wrong}")
        return self
