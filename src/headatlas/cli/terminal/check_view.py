"""Prints the steps of `headatlas check`."""

from rich.text import Text

from headatlas.cli.terminal import console as make_console
from headatlas.protocol.entry_check import Step


def print_step(step: Step) -> None:
    """Print one step: its name, whether it passed, and what was found."""
    console = make_console()
    sign, style = ("✓", "green") if step.passed else ("✗", "red")
    for number, line in enumerate(step.said):
        head = Text.assemble((f"{sign} ", style), (f"{step.name:8}", "bold")) if number == 0 else Text(" " * 10)
        console.print(head + Text(line), soft_wrap=True)
