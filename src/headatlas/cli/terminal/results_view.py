"""Prints recorded verdicts: signs of head types x models, all details of one model, or plain rows for a pipe."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import VerdictLabel
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal.signs import (
    HEADING,
    QUICK_LEGEND,
    Grid,
    held,
    marks,
    print_key,
    sign,
    word,
)
from headatlas.evidence.signs import AS_EXPECTED, NOT_DECIDED, OTHERWISE, VERDICTS, against, as_expected, counted
from headatlas.protocol.results import Result, models_run, told_apart

Order = Literal["stage", "holds", "name"]
_COLUMNS = ("type", "model", "verdict", "expected", "as_expected", "heads", "same_verdict_in", "of", "day", "budget")
_COMPARED = {AS_EXPECTED: "=", OTHERWISE: "≠", NOT_DECIDED: "?", "": ""}
_HEADS = 40  # columns of heads, before the day
_WIDE = 100  # columns from which the day and what changed are shown


def print_results(catalog: Catalog, results: Sequence[Result], folder: Path, by: Order = "stage") -> None:
    """Print signs for several models, or for one model a row per type with its heads; plain rows into a pipe."""
    console = _console()
    if not results:
        print(f"no records in {folder}; `headatlas run --all` writes them")
    elif not console.is_terminal:
        print_rows(catalog, results)
        for line in told_apart(results):  # where the rows are read by a program, the notes go to people
            print(f"headatlas: {line}", file=sys.stderr)
    else:
        models = [id for part in models_run(catalog, results) for id in part]
        stale = not all(result.stale for result in results)
        if len(models) == 1:
            _print_one_model(console, catalog, results, by, stale)
        else:
            _print_grid(console, catalog, results, by, stale)
        _print_legend(console, results)


def print_rows(catalog: Catalog, results: Sequence[Result]) -> None:
    """Print a row per type and model, in whole words between tabs; the first row has the names of the columns."""
    print("\t".join((*_COLUMNS, "changed_since")))
    order = [id for part in models_run(catalog, results) for id in part]
    place = {id: number for number, id in enumerate(catalog.heads)}
    for result in sorted(
        results, key=lambda each: (place.get(each.record.entry.id, len(place)), order.index(each.record.model.id))
    ):
        record, (same, of) = result.record, result.stable
        label = record.verdict.label
        row = (record.entry.id, record.model.id, label, result.expected or "", against(label, result.expected))
        more = (" ".join(map(str, record.selected)), str(same), str(of), result.day, record.budget)
        print("\t".join((*row, *more, ", ".join(result.changed))))


def _grouped(catalog: Catalog, results: Sequence[Result], by: Order) -> list[tuple[str, list[str]]]:
    """Ids of entries below headings; ids that the catalog no longer has come last."""
    here = {result.record.entry.id for result in results}
    gone = sorted(here - set(catalog.heads))
    if by == "name":
        return [("", sorted(here))]
    if by == "holds":
        labels = {id: [each.record.verdict.label for each in results if each.record.entry.id == id] for id in here}
        order = list(VERDICTS)
        return [("", sorted(here, key=lambda id: (*(-labels[id].count(label) for label in order), id)))]
    groups = [
        (stage.name, [id for id, head in catalog.heads.items() if head.stage == stage.id and id in here])
        for stage in catalog.taxonomy.stages
    ]
    groups += [("No longer in the catalog", gone)]
    return [(heading, ids) for heading, ids in groups if ids]


def _print_grid(console: Console, catalog: Catalog, results: Sequence[Result], by: Order, stale: bool) -> None:
    ran = models_run(catalog, results)
    cells = {
        (each.record.entry.id, each.record.model.id): sign(each.record.verdict.label) + Text(marks(each, stale))
        for each in results
    }
    by_type: dict[str, list[Result]] = {}
    for each in results:
        by_type.setdefault(each.record.entry.id, []).append(each)
    after = {
        title: {id: held(_labels(found, models)) for id, found in by_type.items()}
        for title, models in (("real", ran.real), ("small", ran.small))
        if models
    }
    after["exp"] = {id: _expected(found) for id, found in by_type.items()}
    Grid(_grouped(catalog, results, by), [*ran.real, *ran.small], cells, after).print(console)
    console.print()
    print_key(console, [each.record.verdict.label for each in results])
    titles = " and ".join(title for title in ("real", "small") if title in after)
    console.print(
        Text(
            f"{titles}: reproduced in, of the models that decide it (– does not), "
            f"{'pretrained models and small test models' if ran.real and ran.small else 'of these models'}; "
            "exp: as expected, of those decided",
            style="dim",
        )
    )


def _labels(results: Sequence[Result], models: Sequence[str]) -> list[VerdictLabel]:
    return [each.record.verdict.label for each in results if each.record.model.id in models]


def _expected(results: Sequence[Result]) -> Text:
    share = as_expected([(each.record.verdict.label, each.expected) for each in results])
    return Text(str(share) if share.whole else "")


def _print_one_model(console: Console, catalog: Catalog, results: Sequence[Result], by: Order, stale: bool) -> None:
    by_type = {result.record.entry.id: result for result in results}
    left = max(map(len, by_type))
    console.print(Text(results[0].record.model.id, style="bold"))
    console.print(Text(f"{'':{left}} {'verdict':16}   exp same heads", style="bold"))
    for heading, ids in _grouped(catalog, results, by):
        if heading:
            console.print(Text(heading, style=HEADING))
        for id in ids:
            console.print(_row(by_type[id], left, console.width, stale))
    console.print(
        Text(
            "exp: = as expected before the run, ≠ not as expected, ? not decided; "
            "same: prompt families and further seeds with the same verdict",
            style="dim",
        )
    )


def _row(result: Result, left: int, width: int, stale: bool) -> Text:
    label = result.record.verdict.label
    same, of = result.stable
    line = Text(result.record.entry.id.ljust(left + 1)) + word(label) + Text(marks(result, stale))
    line += Text(" " * (left + 1 + 18 - len(line)))
    line += Text(f" {_COMPARED[against(label, result.expected)]:3} {f'{same}/{of}' if of else '':4} ")
    behind = f"  {result.day}  {', '.join(result.stale)}".rstrip() if width >= _WIDE else ""
    room = min(width - len(line) - len(behind), _HEADS if behind else width)
    heads = _that_fit([str(head) for head in result.record.selected], room)
    line += Text(heads.ljust(room) + behind if behind else heads)
    line.rstrip()
    return line


def _that_fit(heads: Sequence[str], room: int) -> str:
    """The first heads that fit, and the number of the others: 'L0H6 L5H3 +12'."""
    shown = " ".join(heads)
    count = len(heads)
    while len(shown) > room and count:
        count -= 1
        shown = " ".join([*heads[:count], f"+{len(heads) - count}"])
    return shown


def _print_legend(console: Console, results: Sequence[Result]) -> None:
    count = Counter(result.record.verdict.label for result in results)
    days = sorted(result.day for result in results)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    console.print(Text(f"{len(results)} records, {when}: {counted(count)}", style="dim"))
    why = "rule, script, stimuli, measuring code or model have changed since the run"
    if all(result.stale for result in results):
        console.print(Text(f"all records are stale: {why}", style="dim"))
    elif any(result.stale for result in results):
        console.print(Text(f"* stale: {why}", style="dim"))
    if any(result.quick for result in results):
        console.print(Text(QUICK_LEGEND, style="dim"))
    for line in told_apart(results):
        console.print(Text(line, style="dim"))
