"""The words of the schema: ids, closed vocabularies, and the two classes that all others build on."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

SCHEMA_VERSION = 2

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
ModelId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([-.][a-z0-9]+)*$", max_length=60)]
CitationKey = Annotated[str, StringConstraints(pattern=r"^[a-z]+\d{4}[a-z0-9]*$", max_length=60)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _day(value: Any) -> Any:
    """Text as YYYY-MM-DD, and not what else pydantic takes for a day, such as the seconds since 1970."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError(f"{value[:20]!r} is no day; write YYYY-MM-DD")
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
PlacedBy = Literal["survey", "headatlas"]
Status = Literal["established", "supported", "contested", "single-source"]
Kind = Literal["mechanistic", "causal", "correlational", "behavioural"]
Stance = Literal["supports", "qualifies", "contradicts"]
Checked = Literal["primary", "secondary"]
RelationType = Literal[
    "composes-with", "feeds", "inhibits", "backs-up", "specialises", "same-as-under-task", "antagonist"
]
VerdictLabel = Literal["reproduced", "partly", "not-reproduced", "inconclusive"]


class Strict(BaseModel):
    """Refuses unknown fields and silent conversions; instances do not change.

    Read with `model_validate_json`: in JSON a list may stand for a tuple and text for a date, and nothing else bends.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sourced(Strict):
    """Something a source says: which source, where in it, and how we checked."""

    source: CitationKey
    at: Text = Field(description="Section, figure, table, page or line of code in the source.")
    checked: Checked = Field(description="primary: we read it in the source itself; secondary: in another's account.")
