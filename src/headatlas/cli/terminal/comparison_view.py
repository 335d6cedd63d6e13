"""Prints two models beside each other: a row per type that either has, with what the other lacks as a sign."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from headatlas.catalog.schema import VerdictLabel
from headatlas.census import comparing
from headatlas.census.comparing import Difference, Side
from headatlas.census.schema import Census
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal.signs import COLOURS, print_models_key, sign
from headatlas.evidence.signs import VERDICTS, short_names

_SIDE = 15  # columns of a model: sign, heads, share, depth
# The signs of verdicts, for what a census finds.
_MEANING: dict[VerdictLabel, str] = {
    "reproduced": "heads with a causal effect",
    "partly": "heads, no effect shown",
    "not-reproduced": "behaviour, but no such head",
    "inconclusive": "behaviour absent",
}


def print_comparison(first: Census, second: Census, found: Iterable[Difference]) -> None:
    """Print a row per type that either model has, then the types that cannot be compared."""
    console = _console()
    every = [each for each in found if each.where != "neither"]
    rows = [each for each in every if each.where != "not comparable"]
    names = comparing.names(first, second)
    short = dict(zip(names, short_names(names).values(), strict=True))
    left = max((len(each.type) for each in rows), default=0)
    console.print(Text(" " * left + "".join(f"  {name:{_SIDE}}" for name in short.values()), style="bold"))
    columns = "  " + f"{'':2}{'n':>3} {'of all':>6} at "
    console.print(Text(" " * left + columns.ljust(_SIDE + 2) * 2 + "  deeper by", style="dim"))
    for each in rows:
        line = Text(each.type.ljust(left)) + _side(each.first) + _side(each.second) + Text("  ") + _deeper(each)
        line.rstrip()
        console.print(line)
    console.print()
    _print_key(console, short)
    _print_apart(console, [each for each in every if each.where == "not comparable"])


def _side(side: Side) -> Text:
    label: VerdictLabel = "partly"
    if not side.heads:
        label = "not-reproduced" if side.behaviour else "inconclusive"
    elif side.causal == "supported":
        label = "reproduced"
    said = Text("  ") + sign(label)
    if side.heads and side.depth is not None:
        said += Text(f" {side.heads:3} {side.share:5.0%} {side.depth:.2f}")
    return said + Text(" " * (_SIDE + 2 - len(said)))


def _deeper(found: Difference) -> Text:
    """The difference in depth, in colour only where its interval leaves zero out."""
    if found.deeper is None:
        return Text()
    if found.deeper_low is None or found.deeper_high is None:
        return Text(f"{found.deeper:+.2f}", style="dim")
    apart = found.deeper_low > 0 or found.deeper_high < 0
    said = Text(f"{found.deeper:+.2f}", style="bold magenta" if apart else "")
    return said + Text(f" [{found.deeper_low:+.2f}, {found.deeper_high:+.2f}]", style="dim")


def _print_key(console: Console, short: dict[str, str]) -> None:
    print_models_key(console, short)
    parts = [Text.assemble((VERDICTS[label], COLOURS[label]), f" {said}") for label, said in _MEANING.items()]
    console.print(Text("  ").join(parts))
    console.print(
        Text(
            "n: heads; of all: their share of all heads; at: their mean depth, 0 the first layer, 1 the last; deeper "
            "by: the second minus the first, with its 95% interval; --json has the intervals of the shares",
            style="dim",
        )
    )


def _print_apart(console: Console, apart: list[Difference]) -> None:
    """The types that cannot be compared, by reason."""
    for note in dict.fromkeys(each.note for each in apart):
        types = [each.type for each in apart if each.note == note]
        console.print(Text(f"not comparable, {note} ({len(types)}): {', '.join(types)}", style="dim"))
