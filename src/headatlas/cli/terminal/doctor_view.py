"""Prints the doctor's checks, one per row, and whether the model is safe to measure."""

from rich.table import Table
from rich.text import Text

from headatlas.cli.terminal import console as _console
from headatlas.lab.safety.diagnosis import Diagnosis

COLOURS = {"pass": "green", "note": "yellow", "fail": "red"}


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the checks, then the conclusion."""
    console = _console()
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("check", "verdict", "error", "what was found"):
        table.add_column(column, justify="right" if column == "error" else "left")
    for check in diagnosis.checks:
        figure = "" if check.figure is None else f"{check.figure:.1e}" if check.figure else "0"
        table.add_row(check.name, Text(check.verdict, style=COLOURS[check.verdict]), figure, Text(check.detail))
    console.print(table)
    console.print(Text(diagnosis.conclusion, style="bold green" if diagnosis.safe else "bold red"))
