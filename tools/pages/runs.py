"""What the runs of a head type say: the verdict card, and the table of runs."""

from collections.abc import Sequence
from typing import Any, Literal

from markupsafe import Markup

from headatlas.catalog.schema import Expectation, HeadType
from headatlas.evidence.records import Cause, Record
from headatlas.evidence.signs import FOUND
from headatlas.protocol.results import Result
from pages.atlas import Atlas
from pages.claims import claim, with_links

Sign = Literal["yes", "no", "not decided", "not tested"]
PARTS = ("behaviour", "detection", "cause")
_SHOWN = 4  # heads of a run in the table; the record has all


def why(record: Record) -> dict[str, Sign]:
    """Whether the model has the behaviour, whether heads were found, and whether they cause it."""
    behaviour, detection, cause = record.behaviour, record.detection, record.cause
    unclear = detection is not None and not detection.selected and (detection.undecided or detection.unsettled)
    return {
        "behaviour": _sign(behaviour.passed if behaviour else None),
        "detection": "not decided" if unclear else _sign(bool(detection.selected) if detection else None),
        "cause": _sign(cause.passed if cause and not cause.too_few_sets else None),
    }


def _sign(passed: bool | None) -> Sign:
    return "not tested" if passed is None else "yes" if passed else "no"


def as_expected(expected: Expectation | None, record: Record) -> str:
    """How a verdict compares with the expectation; '' without one."""
    if expected is None:
        return ""
    if record.verdict.label == expected.verdict:
        return "as expected"
    return "not decided" if record.verdict.label == "inconclusive" else "not as expected"


def card(atlas: Atlas, head: HeadType, small: Sequence[Result], root: str) -> dict[str, Any]:
    """The data of the verdict card: the claim, each run on a pretrained model, and the small models together."""
    large = [result for result in atlas.runs_of(head.id) if result not in small]
    ran = {result.record.model.catalog_id or result.record.model.id for result in atlas.runs_of(head.id)}
    named = {finding.model for finding in head.findings if finding.model and finding.heads}
    decided = [each for each in small if each.record.verdict.label != "inconclusive"]
    signs = [why(each.record) for each in small]
    return {
        "claim": with_links(claim(head.id), atlas.catalog, root),
        "large": [
            {"result": each, "why": why(each.record), "seeds": seeds(each.record)}
            for each in sorted(large, key=lambda each: atlas.leading.index(each.record.model.id))
        ],
        "not_run": [model for model in atlas.leading if head.rule and (head.id, model) not in atlas.by_place],
        "small": len(small),
        "reproduced": sum(each.record.verdict.label == "reproduced" for each in small),
        "decided": len(decided),
        "small_why": {part: sum(sign[part] == "yes" for sign in signs) for part in PARTS},
        "not_rerun": sorted(named - ran - set(atlas.leading), key=lambda model: atlas.model_name(model).lower()),
    }


def seeds(record: Record) -> str:
    """Of the seeds that were run, how many have the verdict."""
    labels = list(record.stability.seeds.values())
    return f"{labels.count(record.verdict.label)} of {len(labels)}" if labels else ""


def rows(atlas: Atlas, head: HeadType) -> list[dict[str, Any]]:
    """One row per model with a run or an expectation."""
    expected = {each.model: each for each in head.reproduction.expected}
    ran = {result.record.model.catalog_id or result.record.model.id: result for result in atlas.runs_of(head.id)}
    made = []
    for model in dict.fromkeys([*ran, *expected]):
        row: dict[str, Any] = {
            "model": model,
            "reported": [each for each in head.findings if each.model == model and each.heads],
            "expected": expected.get(model),
            "result": ran.get(model),
        }
        if result := row["result"]:
            row |= {
                "why": why(result.record),
                "found": _found(result.record),
                "paged": atlas.has_head_pages(model) and result.record.verdict.label in FOUND,
                "more": max(0, len(result.record.selected) - _SHOWN),
                "effect": effect(result.record.cause),
                "seeds": seeds(result.record),
                "as_expected": as_expected(row["expected"], result.record),
            }
        made.append(row)
    return made


def _found(record: Record) -> list[dict[str, str]]:
    detection = record.detection
    if detection is None:
        return []
    return [
        {"head": str(head)}
        | {name: f"{getattr(detection, name)[head.layer][head.head]:.2f}" for name in ("score", "low", "high")}
        for head in record.selected[:_SHOWN]
    ]


def effect(cause: Cause | None) -> Markup:
    """The effect of the heads found, beside that of random sets."""
    if cause is None:
        return Markup("")
    sets = len(cause.random_effects)
    if cause.too_few_sets:
        return Markup("not told: only {} random sets exist").format(sets)
    beaten = f"all {sets}" if cause.share_exceeded == 100 else f"{cause.share_exceeded:.3g}% of {sets}"
    return Markup("{} by {:.2f} [{:.2f}, {:.2f}], more than {} random sets").format(
        cause.direction, cause.effect, cause.low, cause.high, beaten
    )
