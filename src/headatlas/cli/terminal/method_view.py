"""Prints the list of methods, or one method with its functions and the figures of its worked example."""

from collections.abc import Collection

from rich.table import Table
from rich.text import Text

from headatlas.catalog.schema import Method
from headatlas.cli.terminal import console as _console
from headatlas.cli.terminal import print_indented
from headatlas.methods import Figures


def print_methods(methods: Collection[Method], functions: bool = False) -> None:
    """Print a line per method, and below it its functions if they are asked for."""
    console = _console(one_line=True)
    left = max(len(method.id) for method in methods) + 2
    for method in methods:
        console.print(Text.assemble((method.id.ljust(left), "bold"), method.name))
        if functions:
            print_indented(console, Text(_functions(method), style="dim"))


def print_method(method: Method, shows: str, figures: Figures, model: str) -> None:
    """Print a method: summary, functions, what the example shows, and its figures on a model."""
    console = _console()
    console.print(Text(method.name, style="bold"))
    console.print(Text(method.summary))
    console.print(Text(f"\nfunctions  {_functions(method)}"))
    console.print(Text(f"example    reproductions/methods/{method.id}.py\n"))
    console.print(Text(shows))
    console.print(Text(f"\nmeasured on {model}", style="dim"))
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, value in figures.items():
        table.add_row(Text(label), Text(value if isinstance(value, str) else f"{value:.4g}"))
    console.print(table)


def _functions(method: Method) -> str:
    return ", ".join(method.functions) or "headatlas has no function for this method yet"
