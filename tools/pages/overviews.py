"""Pages over many head types: the table, the matrix, depth, the timeline."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from headatlas.catalog.schema import HeadType
from headatlas.evidence.signs import VERDICTS, counted, holds_in
from headatlas.pages.figures.depths import DepthPlace, depths_picture, mean_depth
from pages.atlas import STATUSES, Atlas
from pages.news import News
from pages.render import page

_MAPS = 3  # models with most reported types, whose maps the home page links
_NAMED_AT_LEAST = 4  # types with reported heads, for a model that nobody ran to have a column


def placed(atlas: Atlas) -> Mapping[tuple[str, str], list[HeadType]]:
    """Head types by stage and group; the survey's types come first."""
    found: dict[tuple[str, str], list[HeadType]] = defaultdict(list)
    for head in sorted(atlas.catalog.heads.values(), key=lambda each: (each.placed_by != "survey", each.id)):
        found[head.stage, head.group].append(head)
    return found


def home_page(atlas: Atlas, news: News) -> str:
    """The home page."""
    counts = {model: Counter(result.record.verdict.label for result in atlas.runs_on(model)) for model in atlas.leading}
    named = Counter(model for _, model in atlas.reported)
    return page(
        "home.md",
        atlas=atlas,
        root="",
        placed=placed(atlas),
        best={head: (atlas.best(head) or (None,))[0] for head in atlas.catalog.heads},
        verdicts=VERDICTS,
        counts=counts,
        news=news.digest(5),
        mapped=[*(model for model, _ in named.most_common(_MAPS) if model not in atlas.leading), *atlas.leading],
    )


def table_page(atlas: Atlas) -> str:
    """The table of all head types, with filters."""
    stages = list(atlas.catalog.taxonomy.stages)
    rows = []
    for head in atlas.catalog.heads.values():
        stage = atlas.catalog.taxonomy.stage(head.stage)
        verdict, model = atlas.best(head.id) or ("not run", "")
        rows.append(
            {
                "head": head,
                "stage": stage,
                "stage_order": stages.index(stage),
                "status_order": STATUSES.index(head.status),
                "year": atlas.first_year(head),
                "verdict": verdict,
                "model": model,
                "verdict_order": [*VERDICTS, "not run"].index(verdict),
            }
        )
    return page("table.md", atlas=atlas, rows=rows, statuses=STATUSES, verdicts=list(VERDICTS))


def matrix_page(atlas: Atlas) -> str:
    """The matrix of head types x models: verdicts of all runs, or the number of heads that papers name."""
    counts = Counter(model for _, model in atlas.reported)
    known = {result.record.model.catalog_id for result in atlas.results}
    named = [model for model, count in counts.most_common() if count >= _NAMED_AT_LEAST and model not in known]
    small = [model for model in atlas.models_run if model not in atlas.leading]
    groups = []
    for stage in atlas.catalog.taxonomy.stages:
        heads = [head for head in atlas.catalog.heads.values() if head.stage == stage.id]
        rows = [
            {
                "head": head,
                "cells": [_cell(atlas, head.id, model) for model in atlas.leading],
                "small": _together(atlas, head.id, small),
                "named": [(model, _named(atlas, head.id, model)) for model in named],
            }
            for head in heads
        ]
        groups.append({"stage": stage, "rows": rows})
    return page(
        "matrix.md",
        atlas=atlas,
        named=named,
        small=small,
        groups=groups,
        verdicts=VERDICTS,
        lead=_matrix_lead(atlas, small),
    )


def _matrix_lead(atlas: Atlas, small: Sequence[str]) -> str:
    """How many types ran where, in two sentences."""
    said = []
    for model in atlas.leading:
        labels = Counter(result.record.verdict.label for result in atlas.runs_on(model))
        each = ", ".join(f"{labels[label]} {label}" for label in VERDICTS)
        said.append(
            f"{labels.total()} of {len(atlas.catalog.heads)} types were run on {atlas.model_name(model)}: {each}."
        )
    if small:
        said.append(f"{len(small)} small test models stand in one column.")
    return " ".join(said)


def _cell(atlas: Atlas, head: str, model: str) -> dict[str, Any]:
    result = atlas.by_place.get((head, model))
    return {
        "model": model,
        "label": result.record.verdict.label if result else None,
        "stale": bool(result and result.stale),
        "quick": bool(result and result.quick),
    }


def _together(atlas: Atlas, head: str, models: Sequence[str]) -> dict[str, Any]:
    """The verdicts of one type on several models, counted."""
    labels = [atlas.by_place[head, model].record.verdict.label for model in models if (head, model) in atlas.by_place]
    return {"share": holds_in(labels), "said": counted(Counter(labels))}


def _named(atlas: Atlas, head: str, model: str) -> int:
    """How many heads of a model papers name for a type."""
    return len({each for finding in atlas.reported.get((head, model), []) for each in finding.heads})


def depths_page(atlas: Atlas, named: Sequence[DepthPlace], censuses: int) -> str:
    """The depth of the heads of each stage: survey, papers, our runs, our censuses.

    Args:
        atlas: of everything.
        named: the named heads of all censuses.
        censuses: how many there are.
    """
    stages: dict[str, str] = {stage.short: stage.name for stage in atlas.catalog.taxonomy.stages}
    reported, measured = atlas.reported_places, atlas.measured_places
    caption = (
        "Share of heads in each tenth of the depth. Every pair of type and model has the same weight, regardless of "
        f"its number of heads. Reported: {len(reported)} pairs of type and model, from findings that support the type. "
        f"Measured: {len(measured)} pairs, from runs with verdict reproduced or partly. On the right: mean depth, and "
        "number of pairs."
    )
    picture = depths_picture(stages, reported, measured, "relative depth of the heads of each stage")
    return page(
        "depths.md",
        atlas=atlas,
        stages=atlas.catalog.taxonomy.stages,
        lead=_depth_lead(stages, reported, measured),
        picture=Markup(picture),
        caption=caption,
        census_picture=Markup(depths_picture(stages, reported, named, "relative depth of all heads named in censuses")),
        census_caption=_census_caption(stages, named, censuses),
        censuses=censuses,
        models=[_model_row(atlas, stages, model) for model in atlas.models_run],
        types=_type_rows(atlas, reported, measured),
        figure=_figure_rows(atlas),
    )


def _census_caption(stages: Mapping[str, str], named: Sequence[DepthPlace], censuses: int) -> str:
    means = {short: mean_depth([place for place in named if place.stage == short]) for short in stages}
    said = ", ".join(f"{stages[short].lower()} {mean:.2f}" for short, mean in means.items() if mean is not None)
    return (
        f"Below each line: every head named by the census of one of {censuses} models, {len(named)} pairs of type and "
        f"model, with or without a causal effect. Mean depth: {said}."
    )


def _depth_lead(stages: Mapping[str, str], reported: Sequence[DepthPlace], measured: Sequence[DepthPlace]) -> str:
    said = "The survey expects the stages to follow each other from the first layer to the last."
    for voice, places in (("In papers", reported), ("In our runs", measured)):
        means = {short: mean_depth([place for place in places if place.stage == short]) for short in stages}
        known = {short: mean for short, mean in means.items() if mean is not None}
        order = sorted(known, key=lambda short: known[short])
        follows = order == list(known)
        listed = ", ".join(f"{stages[short].lower()} {known[short]:.2f}" for short in order)
        said += f" {voice} the order of mean depth is {'the same' if follows else 'different'}: {listed}."
    return said


def _model_row(atlas: Atlas, stages: Mapping[str, str], model: str) -> dict[str, Any]:
    mine = [place for place in atlas.measured_places if place.model == model]
    by_stage = [[place for place in mine if place.stage == short] for short in stages]
    return {"model": model, "cells": [{"mean": mean_depth(places), "n": len(places)} for places in by_stage]}


def _type_rows(atlas: Atlas, reported: Sequence[DepthPlace], measured: Sequence[DepthPlace]) -> list[dict[str, Any]]:
    rows = []
    for head in atlas.catalog.heads.values():
        voices = {}
        for voice, places in (("reported", reported), ("measured", measured)):
            mine = [place for place in places if place.head == head.id]
            mean = mean_depth(mine)
            voices[voice] = "" if mean is None else f"{mean:.2f} ({len(mine)})"
        figure = atlas.catalog.taxonomy.depths
        drawn = ", ".join(figure.layers_of(head.id)) if figure else ""
        if head.survey or drawn or any(voices.values()):
            tabled = ", ".join(head.survey.layers) if head.survey else ""
            rows.append({"head": head, "survey": tabled, "figure": drawn} | voices)
    return rows


def _figure_rows(atlas: Atlas) -> list[dict[str, Any]]:
    """The survey's figure: for each stage, last to first as drawn, the head types in each column of depth."""
    figure = atlas.catalog.taxonomy.depths
    if figure is None:
        return []
    places = atlas.catalog.taxonomy.survey_heads
    return [
        {
            "stage": stage,
            "cells": [[id for id in column.heads if places[id][0] == stage.id] for column in figure.columns],
        }
        for stage in reversed(atlas.catalog.taxonomy.stages)
    ]


def timeline_page(atlas: Atlas) -> str:
    """Head types by the year of the first source that supports them."""
    years: dict[int, list[HeadType]] = defaultdict(list)
    for head in atlas.catalog.heads.values():
        years[atlas.first_year(head)].append(head)
    busiest = max(years, key=lambda year: len(years[year]))
    lead = (
        f"The year of a type is that of its earliest supporting source in the catalog; {busiest} has the most types "
        f"({len(years[busiest])}). The catalog cites one version of a source, which may be later than its first draft."
    )
    return page("timeline.md", atlas=atlas, lead=lead, years=sorted(years.items()))
