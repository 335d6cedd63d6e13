"""Prints recorded verdicts: head types x models, or all details of one model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal.record_view import COLOURS, QUICK, QUICK_LEGEND
from headatlas.protocol.results import Result, told_apart

_SHOWN = 4  # heads of a row


def print_results(catalog: Catalog, results: Sequence[Result], folder: Path) -> None:
    """Print a matrix for several models, or for one model a row per type with heads, stability and day."""
    console = _console()
    if not results:
        console.print(Text(f"no records in {folder}; `headatlas run --all` writes them"))
        return
    models = list(dict.fromkeys(result.record.model.id for result in results))
    if len(models) == 1:
        console.print(_one_model(catalog, results))
    else:
        console.print(_matrix(catalog, results, models))
    _print_legend(console, results)


def _ordered(catalog: Catalog, results: Sequence[Result]) -> list[str]:
    """Ids of entries in the order of the catalog, then ids that the catalog no longer has."""
    here = {result.record.entry.id for result in results}
    return [id for id in catalog.heads if id in here] + sorted(here - set(catalog.heads))


def _matrix(catalog: Catalog, results: Sequence[Result], models: Sequence[str]) -> Table:
    cells = {(result.record.entry.id, result.record.model.id): result for result in results}
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("head type", no_wrap=True)
    for model in models:
        table.add_column(model)
    for id in _ordered(catalog, results):
        table.add_row(id, *(_verdict(cells.get((id, model))) for model in models))
    return table


def _one_model(catalog: Catalog, results: Sequence[Result]) -> Table:
    by_entry = {result.record.entry.id: result for result in results}
    table = Table(box=None, padding=(0, 1), header_style="bold", title=results[0].record.model.id, title_justify="left")
    for column in ("head type", "verdict", "expected", "heads", "same verdict in", "day", "changed since"):
        table.add_column(column, no_wrap=column in ("head type", "verdict", "day"))
    for id in _ordered(catalog, results):
        result = by_entry[id]
        heads = [str(head) for head in result.record.selected]
        more = f" +{len(heads) - _SHOWN}" if len(heads) > _SHOWN else ""
        same, of = result.stable
        table.add_row(
            id,
            _verdict(result),
            result.expected or "",
            " ".join(heads[:_SHOWN]) + more,
            f"{same} of {of}" if of else "",
            result.day,
            ", ".join(result.stale),
        )
    return table


def _verdict(result: Result | None) -> Text:
    if result is None:
        return Text("")
    label = result.record.verdict.label
    return Text(label + QUICK * result.quick + "*" * bool(result.stale), style=COLOURS[label])


def _print_legend(console: Console, results: Sequence[Result]) -> None:
    count: Counter[str] = Counter(result.record.verdict.label for result in results)
    days = sorted(result.day for result in results)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    total = ", ".join(f"{count[label]} {label}" for label in COLOURS if count[label])
    console.print(Text(f"\n{len(results)} records, {when}: {total}", style="dim"))
    if any(result.stale for result in results):
        console.print(
            Text("* stale: rule, script, stimuli, measuring code or model have changed since the run", style="dim")
        )
    if any(result.quick for result in results):
        console.print(Text(QUICK_LEGEND, style="dim"))
    for line in told_apart(results):
        console.print(Text(line, style="dim"))
