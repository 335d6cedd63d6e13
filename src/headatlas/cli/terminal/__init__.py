"""What a person sees on the terminal."""

from rich.console import Console


def console(one_line: bool = False) -> Console:
    """The terminal, without guesses at what might deserve a colour.

    Args:
        one_line: rows are not to be broken: a terminal cuts them, and a file or a pipe gets them whole.
    """
    made = Console(highlight=False, soft_wrap=False)
    return made if made.is_terminal or not one_line else Console(highlight=False, width=10_000)
