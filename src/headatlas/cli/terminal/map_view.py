"""Prints the map of a model: a letter for the first name of each head, and how many names it has."""

import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from headatlas.census.head_names import HeadNames
from headatlas.cli.terminal import console as make_console
from headatlas.notation import Head

NOBODY = "·"  # a head without a name
ABSENT = " "  # no such head
_MANY = "+"  # more names than a digit says
_EVERY = string.ascii_lowercase + string.ascii_uppercase + string.digits


def print_map(names: HeadNames) -> None:
    """Print what papers report, and below it what was measured; both use the same letters."""
    console = make_console()
    reported = {head: [each.head_type.id for each in namings] for head, namings in names.reported.items() if namings}
    measured = {head: [each.type for each in found] for head, found in names.measured.items()}
    letters = letters_of([*reported.values(), *measured.values()])
    total = sum(names.by_layer)
    console.print(Text.assemble((names.model, "bold"), f", {len(names.by_layer)} layers, {total} heads"))
    for title, heads in (("Reported by papers", reported), (f"Measured by headatlas ({names.source})", measured)):
        if heads:
            count = sum(map(len, heads.values()))
            said = f": {len(heads)} of {total} heads named, {count} names"
            console.print(Text.assemble("\n", (title, "bold"), said))
            _print_grid(console, names.by_layer, heads, letters)
    if not reported:
        console.print(Text("\nno paper in the catalog names a head of this model"))
    if not measured:
        why = "a census measures all heads" if not names.source else f"{names.source}: no head found"
        console.print(Text(f"\nNot measured: {why}; headatlas census {names.id}", style="dim"))
    _print_key(console, letters, [*reported.values(), *measured.values()])


def letters_of(named: Sequence[Sequence[str]]) -> dict[str, str]:
    """A sign for every type, a letter of its id where one is free: that of the most heads chooses first."""
    count = Counter(type for types in named for type in types)
    letters: dict[str, str] = {}
    for type in sorted(count, key=lambda each: (-count[each], each)):
        wanted = [sign for letter in type if letter.isalpha() for sign in (letter.lower(), letter.upper())]
        free = [sign for sign in (*wanted, *_EVERY) if sign not in letters.values()]
        letters[type] = free[0] if free else "?"
    return letters


def _print_grid(
    console: Console, by_layer: Sequence[int], heads: Mapping[Head, Sequence[str]], letters: Mapping[str, str]
) -> None:
    """A row per layer; blocks of heads if the terminal is narrow."""
    left, cell = len(f"L{len(by_layer) - 1}"), 3
    if left + cell * max(by_layer) > console.width:
        cell = 2
    fit = max(1, (console.width - left) // cell)
    for first in range(0, max(by_layer), fit):
        columns = range(first, min(first + fit, max(by_layer)))
        console.print(Text(" " * left + "".join(f"{column:>{cell}}" for column in columns), style="dim"))
        for layer, count in enumerate(by_layer):
            line = Text(f"L{layer}".ljust(left), style="dim")
            for column in columns:
                line += Text(" ") + _cell(heads.get(Head(layer, column), ()), column < count, letters, cell - 1)
            line.rstrip()
            console.print(line)


def _cell(types: Sequence[str], there: bool, letters: Mapping[str, str], width: int) -> Text:
    if not types:
        return Text((NOBODY if there else ABSENT).ljust(width), style="dim")
    more = "" if len(types) == 1 else str(len(types)) if len(types) < 10 else _MANY
    return Text.assemble((letters[types[0]], "bold"), (more, "dim") if width > 1 else "", " " * (width - 1 - len(more)))


def _print_key(console: Console, letters: Mapping[str, str], named: Sequence[Sequence[str]]) -> None:
    """Types by their letters, each with the number of its heads, in columns."""
    if not letters:
        return
    count = Counter(type for types in named for type in types)
    entries = [f"{sign} {type} {count[type]}" for type, sign in letters.items()]
    width = max(map(len, entries)) + 2
    columns = max(1, console.width // width)
    console.print()
    for row in _rows(entries, columns):
        console.print(Text("".join(entry.ljust(width) for entry in row).rstrip()))
    console.print(
        Text(
            "letter: the name with the strongest evidence, of measured ones that of the fewest heads; "
            f"digit: how many names; {NOBODY} none. headatlas who MODEL L5H1 has the evidence",
            style="dim",
        )
    )


def _rows(entries: Sequence[str], columns: int) -> Iterator[Sequence[str]]:
    height = -(-len(entries) // columns)
    for row in range(height):
        yield entries[row::height]
