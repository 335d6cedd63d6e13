"""The page of one head type."""

from collections import Counter
from typing import Any

from headatlas import locations
from headatlas.catalog.schema import HeadType
from headatlas.pages.figures.heatmap import top_of
from headatlas.pages.report import cause_picture, heads_picture
from headatlas.protocol.results import Result
from pages import runs
from pages.atlas import Atlas
from pages.evidence import STANCES, shown
from pages.examples import Example
from pages.render import number, page, text

_ROOT = "../../"


def head_page(atlas: Atlas, head: HeadType, example: Example | None = None) -> str:
    """The page of one head type, from the catalog and the records."""
    stage = atlas.catalog.taxonomy.stage(head.stage)
    results = atlas.runs_of(head.id)
    small = [each for each in results if each.record.model.id not in atlas.leading]
    rows = runs.rows(atlas, head)
    script = locations.reproductions() / f"{head.id}.py"
    return page(
        "head.md",
        atlas=atlas,
        root=_ROOT,
        head=head,
        stage=stage,
        group=stage.group(head.group),
        part=stage.group(head.group).part_of(head.id),
        drawn=atlas.catalog.taxonomy.depths,
        card=runs.card(atlas, head, small, _ROOT),
        parts=runs.PARTS,
        small_verdicts=Counter(result.record.verdict.label for result in small),
        pictures=[picture for result in results if (picture := _pictures(result))],
        example=example,
        evidence=shown(head),
        stances=Counter(each.stance for each in sorted(head.findings, key=lambda each: STANCES.index(each.stance))),
        sources_of={each.source for each in head.findings},
        rows=[row for row in rows if row["result"] not in small],
        small_rows=[row for row in rows if row["result"] in small],
        rule=head.rule,
        script=script.read_text(encoding="utf-8") if head.rule and script.is_file() else None,
        sources=atlas.catalog.sources(head),
    )


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
