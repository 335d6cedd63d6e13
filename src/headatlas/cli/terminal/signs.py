"""Prints verdicts as coloured signs: one sign, their key, and a grid of head types x models that is never cut."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from headatlas.catalog.schema import VerdictLabel
from headatlas.evidence.signs import VERDICTS, holds_in, short_names

if TYPE_CHECKING:
    from headatlas.protocol.results import Result

COLOURS: Mapping[VerdictLabel, str] = {
    "reproduced": "green",
    "partly": "yellow",
    "not-reproduced": "red",
    "inconclusive": "blue",
}
QUICK, QUICK_LEGEND = "~", "~ quick: fewer prompts and random sets than the rules say; --budget full draws all"
STALE = "*"
HEADING = "bold cyan"
_GAP = 1  # columns between two signs


def sign(label: VerdictLabel) -> Text:
    """The sign of a verdict, in its colour."""
    return Text(VERDICTS[label], style=COLOURS[label])


def word(label: VerdictLabel) -> Text:
    """The sign and the word of a verdict, in its colour."""
    return Text(f"{VERDICTS[label]} {label}", style=COLOURS[label])


def marks(result: "Result", stale: bool = True) -> str:
    """What stands behind the verdict of a run: quick, and stale unless that is said elsewhere."""
    return QUICK * result.quick + STALE * (stale and bool(result.stale))


def signs_of(labels: Iterable[VerdictLabel | None]) -> Text:
    """The signs of several models in a row; a space where one has none."""
    return Text.assemble(*(" " if label is None else sign(label) for label in labels))


def print_key(console: Console, labels: Iterable[VerdictLabel]) -> None:
    """Print what the signs mean that were used."""
    used = set(labels)
    parts = [word(label) for label in VERDICTS if label in used]
    console.print(Text("  ").join(parts))


def print_models_key(console: Console, names: Mapping[str, str]) -> None:
    """Print which model each short name is, as many in a line as fit."""
    line = Text()
    for id, name in names.items():
        part = Text.assemble((name, "bold"), f" {id}") if name != id else Text(id, style="bold")
        if line and len(line) + 2 + len(part) > console.width:
            console.print(line)
            line = Text()
        line += part if not line else Text("  ") + part
    console.print(line)


@dataclass(frozen=True)
class Grid:
    """Signs of head types x models.

    Attributes:
        groups: a heading, or '' for none, and the head types below it.
        models: in the order of the columns.
        cells: signs by head type and model, each with its marks.
        after: further columns by title, each with its text by head type; they follow the first models.
    """

    groups: Sequence[tuple[str, Sequence[str]]]
    models: Sequence[str]
    cells: Mapping[tuple[str, str], Text]
    after: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)

    def print(self, console: Console) -> None:
        """Print the grid, in several blocks of models if the terminal is too narrow, and the key of the models."""
        names = short_names(self.models)
        left = max(len(id) for _, ids in self.groups for id in ids)
        after = {title: max(len(title), *map(len, column.values())) for title, column in self.after.items()}
        widths = {model: max(len(names[model]), self._widest(model)) for model in self.models}
        room = console.width - left - sum(_GAP + width for width in after.values())
        for number, block in enumerate(_blocks(self.models, widths, room, console.width - left)):
            if number:
                console.print()
            self._print_block(console, left, {id: widths[id] for id in block}, names, after if number == 0 else {})
        print_models_key(console, names)

    def _widest(self, model: str) -> int:
        return max((len(cell) for (_, column), cell in self.cells.items() if column == model), default=1)

    def _print_block(
        self,
        console: Console,
        left: int,
        models: Mapping[str, int],
        names: Mapping[str, str],
        after: Mapping[str, int],
    ) -> None:
        titles = [names[model].ljust(width) for model, width in models.items()]
        titles += [title.rjust(width) for title, width in after.items()]
        console.print(Text(f"{'':{left}} {' '.join(titles)}", style="bold"))
        for heading, ids in self.groups:
            if heading:
                console.print(Text(heading, style=HEADING))
            for id in ids:
                line = Text(id.ljust(left))
                for model, width in models.items():
                    cell = self.cells.get((id, model), Text())
                    line += Text(" ") + cell + Text(" " * (width - len(cell)))
                for title, width in after.items():
                    cell = self.after[title].get(id, Text())
                    line += Text(" " * (1 + width - len(cell))) + cell
                line.rstrip()
                console.print(line)


def _blocks(models: Sequence[str], widths: Mapping[str, int], first: int, other: int) -> list[list[str]]:
    """The models in blocks that fit; each holds at least one."""
    blocks: list[list[str]] = [[]]
    room = first
    for model in models:
        need = _GAP + widths[model]
        if blocks[-1] and need > room:
            blocks.append([])
            room = other
        blocks[-1].append(model)
        room -= need
    return blocks


def held(labels: Iterable[VerdictLabel]) -> Text:
    """In how many models a finding is reproduced, as '3/4'; '' if none decides it."""
    share = holds_in(labels)
    return Text(str(share) if share.whole else "")
