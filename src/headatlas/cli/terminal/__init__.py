"""Prints results for people on the terminal."""

from rich.console import Console


def console(one_line: bool = False) -> Console:
    """The terminal, without rich's automatic colours.

    Args:
        one_line: never break a row: a terminal cuts it, and a file or a pipe gets it whole.
    """
    made = Console(highlight=False, soft_wrap=False)
    return made if made.is_terminal or not one_line else Console(highlight=False, width=10_000)
