"""What we measured on one head: a score for each type that it has, that papers give it, or that it lost."""

from collections.abc import Iterator, Sequence
from typing import Literal

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Strict
from headatlas.census.schema import Causal, Census, TypeResult
from headatlas.evidence.record_parts import Number
from headatlas.notation import Head
from headatlas.protocol.results import Result
from pages.maps import NamedHead

Outcome = Literal["named", "did not hold", "not found"]


class Score(Strict):
    """One type that we measured on this head: a type that it has, that papers give it, or that it lost.

    `score`, `low`, `high` and `control` are from held-out prompts. A census keeps these only of heads that it selected:
    of others, `score` and `control` are from the prompts that select, and `held_out` is false. `causal` is from the
    census, `verdict` from a run; both are of all heads found of the type together.
    """

    type: str
    name: str
    source: Literal["census", "run"]
    outcome: Outcome
    score: Number
    low: Number | None
    high: Number | None
    control: Number
    threshold: Number
    metric: str
    held_out: bool
    behaviour: bool | None
    causal: Causal | None
    verdict: str | None


def _outcome(head: str, found: Sequence[str], lost: Sequence[str]) -> Outcome:
    return "named" if head in found else "did not hold" if head in lost else "not found"


def _shown(outcome: Outcome, type: str, named: NamedHead) -> bool:
    return outcome != "not found" or type in {name.type.id for name in named.papers}


def of_census(catalog: Catalog, named: NamedHead, census: Census | None) -> Iterator[Score]:
    """What a census measured on a head."""
    head = str(named.head)
    for type in census.types if census else ():
        outcome = _outcome(head, type.heads, type.did_not_hold)
        if type.status == "measured" and type.id in catalog.heads and _shown(outcome, type.id, named):
            assert census
            yield _census_score(catalog, named.head, census, type, outcome)


def _census_score(catalog: Catalog, head: Head, census: Census, type: TypeResult, outcome: Outcome) -> Score:
    (result,) = [each for each in census.heads if each.head == str(head)]
    labels = [label for label in (*result.labels, *result.did_not_hold) if label.type == type.id]
    found, control = type.find or [], type.find_control or []
    label = labels[0] if labels else None
    return Score(
        type=type.id,
        name=catalog.heads[type.id].name,
        source="census",
        outcome=outcome,
        score=label.score if label else found[head.layer][head.head],
        low=label.low if label else None,
        high=label.high if label else None,
        control=label.control if label else control[head.layer][head.head],
        threshold=type.threshold,
        metric=type.metric,
        held_out=label is not None,
        behaviour=type.behaviour.passed if type.behaviour else None,
        causal=label.causal if label and outcome == "named" else None,
        verdict=None,
    )


def of_runs(catalog: Catalog, named: NamedHead, runs: Sequence[Result]) -> Iterator[Score]:
    """What recorded runs measured on a head."""
    layer, head = named.head
    for each in runs:
        record, detection = each.record, each.record.detection
        if detection is None:
            continue
        outcome = _outcome(str(named.head), detection.selected, detection.did_not_hold)
        if not _shown(outcome, record.entry.id, named):
            continue
        score, low, high, control = (
            grid[layer][head] for grid in (detection.score, detection.low, detection.high, detection.control)
        )
        yield Score(
            type=record.entry.id,
            name=catalog.heads[record.entry.id].name,
            source="run",
            outcome=outcome,
            score=score,
            low=low,
            high=high,
            control=control,
            threshold=detection.threshold,
            metric=detection.metric,
            held_out=True,
            behaviour=record.behaviour.passed if record.behaviour else None,
            causal=None,
            verdict=record.verdict.label,
        )
