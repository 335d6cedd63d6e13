"""Prints a census and a plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import Census, TypeResult
from headatlas.census.summary import common_types
from headatlas.cli.terminal import console as _console

if TYPE_CHECKING:
    from headatlas.census.planning import Costs

_SHOWN = 6  # heads of a row
_CAUSAL = {"supported": "green", "not supported": "red", "not tested": "dim"}


def print_census(catalog: Catalog, census: Census, written: Sequence[Path]) -> None:
    """Print the summary of a census: how many heads have names, which types, how deep the stages lie."""
    console, summary = _console(), census.summary
    console.print(
        Text.assemble(
            (f"{census.model.name}", "bold"),
            f": {summary.labelled} of {summary.heads} heads have a name, {summary.unknown_share:.0%} are unknown; "
            f"{summary.types_found} of {summary.types_measured} types found, {summary.types_supported} of them causal",
        )
    )
    if census.model.head_counts:
        console.print(Text(f"{census.model.size}, {census.model.kv_size} key/value groups per layer", style="dim"))
    console.print(_types(catalog, census))
    console.print(_stages(census))
    if common := common_types(census.types, summary.heads):
        names = ", ".join(f"{each.id} ({len(each.heads)})" for each in common)
        said = f"carried by more than a fifth of the heads, a property rather than a kind of head: {names}"
        console.print(Text(said, style="dim"))
    apart = [each for each in census.types if each.status != "measured"]
    for status in dict.fromkeys(each.status for each in apart):
        names = ", ".join(each.id for each in apart if each.status == status)
        console.print(Text(f"{status}: {names}", style="dim"))
    if summary.did_not_hold:
        lost = ", ".join(f"{each.id} {' '.join(each.did_not_hold)}" for each in census.types if each.did_not_hold)
        console.print(Text(f"failed on new prompts, not counted: {lost}", style="dim"))
    for path in written:
        console.print(Text(f"wrote {path}", style="dim"))


def _types(catalog: Catalog, census: Census) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in ("head type", "stage", "heads", "", "cause"):
        table.add_column(column, justify="right" if column == "heads" else "left", no_wrap=column != "")
    for each in sorted(census.types, key=lambda each: -len(each.heads)):
        if each.heads:
            more = f" +{len(each.heads) - _SHOWN}" if len(each.heads) > _SHOWN else ""
            table.add_row(
                each.id,
                catalog.taxonomy.stage(each.stage).short,
                str(len(each.heads)),
                Text(" ".join(each.heads[:_SHOWN]) + more),
                _causal(each),
            )
    return table


def _causal(found: TypeResult) -> Text:
    lacking = found.behaviour is not None and not found.behaviour.passed
    return Text("behaviour absent" if lacking else found.causal, style="dim" if lacking else _CAUSAL[found.causal])


def _stages(census: Census) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in ("stage", "types", "heads", "mean depth (0 first layer, 1 last)"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in census.summary.stages:
        depth = "" if stage.mean_depth is None else f"{stage.mean_depth:.2f}"
        interval = "" if stage.low is None or stage.high is None else f" [{stage.low:.2f}, {stage.high:.2f}]"
        table.add_row(f"{stage.short} {stage.name}", str(stage.types), str(stage.heads), depth + interval)
    return table


def print_plan(costs: "Costs") -> None:
    """Print the cost of a census: passes, tokens, time, memory."""
    console = _console()
    for line in costs.lines():
        console.print(Text(line))
