"""How a command joins the command line: its name, help, an example, and --json."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add(
    commands: "Commands",
    name: str,
    command: Callable[[argparse.Namespace], int],
    help: str,
    example: str,
    json: str = "print JSON",
) -> argparse.ArgumentParser:
    """Add one command, and return its parser, to which its own arguments are added.

    Args:
        commands: of the command line.
        name: as it is typed.
        command: what it does; returns the exit code.
        help: one line, without a capital or a full stop.
        example: a whole line to type.
        json: what --json does.
    """
    parser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=f"example: {example}"
    )
    parser.add_argument("--json", action="store_true", help=json)
    parser.set_defaults(command=command)
    return parser
