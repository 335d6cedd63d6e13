"""Prints the names of one head: what papers report, and apart from it what was measured."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.collections import Naming
from headatlas.census.head_names import HeadNames, MeasuredName
from headatlas.cli.terminal import print_items, prose
from headatlas.cli.terminal.findings import print_by_source
from headatlas.notation import Head

_SHOWN = 3  # supporting findings of a name; `--json` has all


def print_who(catalog: Catalog, names: HeadNames, head: Head) -> None:
    """Print a line that sums up, each name with its findings and circuits, and what was measured."""
    console = prose()
    namings, measured = names.reported.get(head, []), names.measured.get(head, [])
    console.print(f"[bold]{head}[/bold] of {escape(names.model)}: {_summary(namings, measured, names)}\n")
    for naming in namings:
        _print_naming(console, catalog, naming, head)
    _print_measured(console, measured, names)


def _summary(namings: Sequence[Naming], measured: Sequence[MeasuredName], names: HeadNames) -> str:
    said = []
    if namings:
        sources = {key for naming in namings for key in naming.sources}
        said += [_count(len(namings), "name"), _count(len(sources), "source")]
        stances = [finding.stance for naming in namings for finding in naming.disputing]
        for stance, word in (("contradicts", "contradict"), ("qualifies", "qualify")):
            count = stances.count(stance)  # type: ignore[arg-type]
            said += [f"{count} {word if count > 1 else stance}"] if count else []
    else:
        said += ["no finding in the catalog names it"]
    if names.source:
        said += [f"{len(measured) or 'no'} measured"]
    return " · ".join(said)


def _print_naming(console: Console, catalog: Catalog, naming: Naming, head: Head) -> None:
    console.print(f"[bold]{escape(naming.head_type.name)}[/bold] [dim]({naming.head_type.id})[/dim]")
    print_by_source(console, catalog, [*naming.findings[:_SHOWN], *naming.disputing], head)
    if (more := len(naming.findings) - _SHOWN) > 0:
        print_items(console, [Text(f"and {more} more: headatlas show {naming.head_type.id} --all")])
    for circuit, role in naming.roles:
        source = f"{catalog.references[role.source].short}, {role.at}"
        print_items(console, [Text.assemble(f"part of the circuit {circuit.name} ", (f"({source})", "dim"))])
    console.print()


def _print_measured(console: Console, measured: Sequence[MeasuredName], names: HeadNames) -> None:
    if not names.source:
        said = f"Not measured yet: headatlas census {names.id} measures all heads of this model"
        console.print(Text(said, style="dim"))
        return
    console.print(Text.assemble(("Measured by headatlas", "bold"), (f"  {names.source}", "dim")))
    width = max((len(each.type) for each in measured), default=0)
    lines = [
        Text.assemble(
            f"{each.type:{width}} ",
            (f"{each.score:5.2f}", "bold"),
            (f" [{each.low:.2f}, {each.high:.2f}] null {each.null:.2f}, needed {each.threshold:g}; ", "dim"),
            each.cause,
        )
        for each in measured
    ]
    print_items(console, lines or [Text("no type: a score below its threshold, or not above its null")])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
