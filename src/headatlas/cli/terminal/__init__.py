"""Prints results for people on the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_PROSE = 100  # columns; longer lines are hard to read


class _Terminal(Console):
    """rich's console, but a reader that goes away is no failure: rich would exit with 1, which is a verdict here."""

    def on_broken_pipe(self) -> None:
        """Leave it to `headatlas.cli.program.main`."""
        raise BrokenPipeError


def console(one_line: bool = False) -> Console:
    """The terminal, without rich's automatic colours.

    Args:
        one_line: never break a row: a terminal cuts it, and a file or a pipe gets it whole.
    """
    made = _Terminal(highlight=False, soft_wrap=False)
    return made if made.is_terminal or not one_line else _Terminal(highlight=False, width=10_000)


def prose() -> Console:
    """The terminal for text: lines of at most 100 columns."""
    made = console()
    return _Terminal(highlight=False, soft_wrap=False, width=min(made.width, _PROSE))


def print_indented(console: Console, text: Text | str, by: int = 2) -> None:
    """Print a paragraph whose continuation lines are indented too."""
    console.print(Padding(text, (0, 0, 0, by), expand=False))


def print_items(console: Console, items: Iterable[Text], sign: str = "-", indent: int = 2) -> None:
    """Print paragraphs as a list; continuation lines stand below the text of the first."""
    table = Table.grid(padding=(0, 1))
    for item in items:
        table.add_row(" " * indent + sign, item)
    console.print(table)
