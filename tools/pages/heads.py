"""The page of one head type."""

from collections import Counter
from typing import Any

from headatlas import locations
from headatlas.catalog.schema import HeadType
from headatlas.pages.figures.heatmap import top_of
from headatlas.pages.report import cause_picture, heads_picture
from headatlas.protocol.results import Result
from pages.atlas import Atlas
from pages.examples import Example
from pages.render import number, page, text

_SHOWN = 4  # heads of a run in the table; the record has all


def head_page(atlas: Atlas, head: HeadType, example: Example | None = None) -> str:
    """The page of one head type, from the catalog and the records."""
    stage = atlas.catalog.taxonomy.stage(head.stage)
    runs = atlas.runs_of(head.id)
    large = [result for result in runs if result.record.model.id in atlas.leading] or runs
    small = [result for result in runs if result not in large]
    rows = _rows(atlas, head)
    script = locations.reproductions() / f"{head.id}.py"
    return page(
        "head.md",
        atlas=atlas,
        head=head,
        stage=stage,
        group=stage.group(head.group),
        part=stage.group(head.group).part_of(head.id),
        drawn=atlas.catalog.taxonomy.depths,
        runs=large,
        small_runs=small,
        small_verdicts=Counter(result.record.verdict.label for result in small),
        pictures=[picture for result in runs if (picture := _pictures(result))],
        example=example,
        rows=[row for row in rows if row["result"] not in small],
        small_rows=[row for row in rows if row["result"] in small],
        rule=head.rule,
        script=script.read_text(encoding="utf-8") if head.rule and script.is_file() else None,
        sources=atlas.catalog.sources(head),
    )


def _rows(atlas: Atlas, head: HeadType) -> list[dict[str, Any]]:
    """One row per model with a report of its own, an expectation or a run; published lists have their own tables."""
    expected = {each.model: each for each in head.reproduction.expected}
    ran = {result.record.model.catalog_id or result.record.model.id: result for result in atlas.runs_of(head.id)}
    reported: dict[str, list[Any]] = {}
    for finding in head.findings:
        if finding.model and finding.heads:
            reported.setdefault(finding.model, []).append(finding)
    return [
        {
            "model": model,
            "reported": reported.get(model, []),
            "expected": expected.get(model),
            "result": ran.get(model),
            "found": _found(ran[model]) if model in ran else [],
            "paged": atlas.has_head_pages(model),
            "more": max(0, len(ran[model].record.selected) - _SHOWN) if model in ran else 0,
        }
        for model in dict.fromkeys([*ran, *expected, *reported])
        if model in ran or model in expected or any(each.published_list is None for each in reported[model])
    ]


def _found(result: Result) -> list[dict[str, str]]:
    detection = result.record.detection
    if detection is None:
        return []
    return [
        {"head": str(head)}
        | {name: f"{getattr(detection, name)[head.layer][head.head]:.2f}" for name in ("score", "low", "high")}
        for head in result.record.selected[:_SHOWN]
    ]


def _pictures(result: Result) -> dict[str, Any] | None:
    """The heat map and the causal test of one run; None if no head was scored."""
    record, detection, cause = result.record, result.record.detection, result.record.cause
    if detection is None:
        return None
    found = record.selected
    total = len(record.model.every_head)
    top = top_of(detection.score, detection.threshold)
    caption = (
        f"In {record.model.name} {len(found) or 'none'} of {total} heads {'is' if len(found) == 1 else 'are'} found"
        f"{' (outlined)' if found else ''}. Shade: {detection.metric}, 0 to {number(top)}, on held-out stimuli."
    )
    if lost := len(detection.did_not_hold):
        caption += f" {lost} more {'was' if lost == 1 else 'were'} selected but failed on these stimuli."
    if cause is not None:
        caption += (
            f" Below: intervening on them changes the behaviour by {number(cause.effect)} (line; band: 95% interval), "
            f"more than {number(cause.share_exceeded)}% of {len(cause.random_effects)} random sets of heads (dots)."
        )
    return {"heads": heads_picture(record), "effects": cause_picture(record), "caption": text(caption)}
