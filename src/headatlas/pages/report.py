"""Writes all recorded results to one self-contained HTML file: the matrix, and each run with its figures."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from markupsafe import Markup

from headatlas.catalog.catalog import Catalog
from headatlas.evidence.records import Record
from headatlas.notation import Head
from headatlas.pages.figures.effects import effects_picture
from headatlas.pages.figures.heatmap import heatmap, top_of
from headatlas.pages.templating import template
from headatlas.protocol.results import Result, told_apart


def report(catalog: Catalog, results: Sequence[Result]) -> str:
    """The HTML report of recorded results.

    Args:
        catalog: gives names, signatures, sources and the order of types.
        results: at least one result.
    """
    models = list(dict.fromkeys(result.record.model.id for result in results))
    by_place = {(result.record.entry.id, result.record.model.id): result for result in results}
    here = {entry for entry, _ in by_place}
    order = [id for id in catalog.heads if id in here] + sorted(here - set(catalog.heads))
    types = [
        {
            "id": id,
            "entry": catalog.heads.get(id),
            "cells": [by_place.get((id, model)) for model in models],
            "runs": [_run(catalog, by_place[id, model]) for model in models if (id, model) in by_place],
        }
        for id in order
    ]
    said = {"apart": told_apart(results), "version": version("headatlas")}
    return template("report.html").render(models=models, types=types, results=results, **said)


def _run(catalog: Catalog, result: Result) -> dict[str, Any]:
    """The data of one run for the report."""
    record = result.record
    return {
        "result": result,
        "record": record,
        "heads": heads_picture(record),
        "top": top_of(record.detection.score, record.detection.threshold) if record.detection else 1.0,
        "effects": cause_picture(record),
        "reported": [
            {"short": catalog.references[each.source].short if each.source in catalog.references else each.source}
            | each.model_dump()
            for each in record.literature.findings
        ],
    }


def heads_picture(record: Record) -> Markup | None:
    """The heat map of one run with found and reported heads marked; None if no head was scored."""
    found = record.detection
    if found is None:
        return None
    named = [Head.parse(head) for head in record.literature.reported_heads]
    return Markup(
        heatmap(
            found.score,
            [(head.layer, head.head) for head in record.selected],
            f"{found.metric}, for each head of {record.model.name}; {len(found.selected)} found",
            [(head.layer, head.head) for head in named],
            top_of(found.score, found.threshold),
        )
    )


def cause_picture(record: Record) -> Markup | None:
    """The figure of a run's causal test and its random sets; None if there was no causal test."""
    cause = record.cause
    if cause is None:
        return None
    title = (
        f"intervention on the heads found: {cause.direction} by {cause.effect:.3g}, more than "
        f"{cause.share_exceeded:.0f}% of {len(cause.random_effects)} random sets"
    )
    return Markup(effects_picture(cause.effect, cause.low, cause.high, cause.random_effects, title))
