"""A census as files for people: one HTML page that needs nothing else, and a table."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import Census, HeadResult
from headatlas.census.summary import common_types
from headatlas.evidence import files
from headatlas.pages.templating import template

COLUMNS = (
    "head", "layer", "index", "kv_group", "depth", "type", "stage", "score", "low", "high", "control", "selected_on",
    "q", "behaviour", "causal", "alone",
)  # fmt: skip


def write_all(catalog: Catalog, census: Census, folder: Path, base: str | None = None) -> list[Path]:
    """Write census.json, census.csv and census.html.

    Raises:
        HeadatlasError: where the folder cannot be written.
    """
    return [
        files.write(folder / "census.json", census.model_dump_json(indent=1) + "\n"),
        files.write(folder / "census.csv", table(census)),
        files.write(folder / "census.html", page(catalog, census, base)),
    ]


def table(census: Census) -> str:
    """A row for every name of every head, and one for every head without a name, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for head in census.heads:
        place = [head.head, head.layer, head.index, head.group, f"{head.depth:.6g}"]
        if not head.labels:
            writer.writerow([*place, "unknown", *[""] * (len(COLUMNS) - len(place) - 1)])
        for each in head.labels:
            numbers = (each.score, each.low, each.high, each.control, each.selected_on, each.q)
            alone = "" if each.alone is None else f"{each.alone:.6g}"
            figures = [f"{number:.6g}" for number in numbers]
            behaviour = "yes" if each.behaviour else "no"
            writer.writerow([*place, each.type, each.stage, *figures, behaviour, each.causal, alone])
    return text.getvalue()


def page(catalog: Catalog, census: Census, base: str | None = None, model_page: str | None = None) -> str:
    """The page, self-contained.

    Args:
        catalog: for the names of stages.
        census: to show.
        base: where the catalog's pages lie, such as 'https://example.org/'; without it types are not linked.
        model_page: where the model's page lies, with a page below it for each named head; without it heads are not
            linked.
    """
    stages = catalog.taxonomy.stages
    short = {stage.id: stage.short for stage in stages}
    types = {each.id: each for each in census.types}
    cells = [(head.layer, _cell(head, short)) for head in census.heads]
    return template("census.html").render(
        census=census,
        stages=stages,
        short=short,
        base=base if base is None or base.endswith("/") or not base else f"{base}/",
        model_page=model_page,
        types=census.types,
        common=common_types(census.types, census.summary.heads),
        rows=[[cell for at, cell in cells if at == layer] for layer in range(census.model.layers)],
        labels=list(_labels(census, short)),
        lost=[(head.head, types[each.type], each) for head in census.heads for each in head.did_not_hold],
        cell=22 if census.model.heads <= 24 else 16,
    )


def _labels(census: Census, short: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    names = {each.id: each.name for each in census.types}
    for head in census.heads:
        for each in head.labels:  # names that did not hold are no names
            about = {"head": head.head, "name": names[each.type], "depth": head.depth, "stage": short[each.stage]}
            yield each.model_dump() | about


def _cell(head: HeadResult, short: dict[Any, Any]) -> dict[str, str]:
    """A square, striped by the stages of the names of a head."""
    stages = list(dict.fromkeys(short[each.stage].lower() for each in head.labels))
    if len(stages) > 1:
        part = 100 / len(stages)
        stops = (f"var(--atlas-{stage}) {part * n:.0f}% {part * (n + 1):.0f}%" for n, stage in enumerate(stages))
        fill = f"linear-gradient(90deg,{','.join(stops)})"
    else:
        fill = f"var(--atlas-{stages[0]})" if stages else ""
    return {"head": head.head, "fill": fill, "names": ", ".join(each.type for each in head.labels) or "unknown"}
