"""How long work tells of its progress."""

from collections.abc import Callable

# Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


# Called with one line that the user must read, whatever becomes of the work.
Tell = Callable[[str], None]


def nothing_told(line: str) -> None:
    """Tell nobody."""
