"""Prints which known types a list of heads is."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from headatlas.census.head_lists import ModelShape
from headatlas.census.identifying import FDR, Match
from headatlas.census.schema import Census
from headatlas.cli.terminal import console as make_console
from headatlas.notation import Head

_SHOWN = 6  # heads of a type in the table


def print_identified(shape: ModelShape, heads: Sequence[Head], found: Sequence[Match], census: Census | None) -> None:
    """Print the types that stand, the least likely by chance first, and how many were compared."""
    console = make_console()
    stand = [each for each in found if each.stands]
    count = f"{len(heads)} head{'s' if len(heads) > 1 else ''} of {shape.name}"
    if stand:
        console.print(Text(f"{count}: more often than chance they are", style="bold"))
        console.print(_table(stand))
    else:
        console.print(Text(f"{count}: no known type more often than chance", style="bold"))
        best = found[0]
        console.print(Text(f"nearest: {best.type}, {len(best.shared)} of them, q {best.q:.2g}"))
    named = {head for each in found for head in each.shared}
    console.print(Text(f"{len(heads) - len(named)} of them have no name at all"))
    measured = f"our census ({census.settings.budget})" if census else "no census: `headatlas census` takes one"
    said = f"compared with {len(found)} types, from papers and {measured}" if census else _papers_only(found, measured)
    console.print(
        Text(f"{said}; p: as many random heads share as many; q: corrected, at most {FDR:g} to be listed", style="dim")
    )


def _papers_only(found: Sequence[Match], why: str) -> str:
    return f"compared with {len(found)} types that papers report of this model ({why})"


def _table(found: Sequence[Match]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for column in ("head type", "says", "of the list", "of all", "q", "heads"):
        table.add_column(Text(column), justify="right" if column in ("of the list", "of all", "q") else "left")
    for each in found:
        more = f" +{len(each.shared) - _SHOWN}" if len(each.shared) > _SHOWN else ""
        table.add_row(
            each.type,
            each.source,
            f"{each.share:.0%}",
            f"{each.background:.1%}",
            f"{each.q:.1g}",
            Text(" ".join(each.shared[:_SHOWN]) + more),
        )
    return table
