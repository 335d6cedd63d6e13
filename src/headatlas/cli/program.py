"""The command line: parse, call the library, print."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from headatlas.cli.commands import (
    catalog,
    census,
    compare,
    contribute,
    fetching,
    identify,
    mistakes,
    model,
    results,
    run,
    streams,
    view,
    who,
)

# What a person comes for, and the commands for it, in the order of use.
GROUPS: Mapping[str, Sequence[str]] = {
    "look up": ("list", "search", "show", "who", "cite", "results", "report", "identify", "method", "export"),
    "measure": (
        "run", "census", "merge", "compare", "heads", "collaborate", "view", "doctor", "specimen", "models", "fetch"
    ),
    "contribute": ("new", "stimuli", "check", "validate"),
}  # fmt: skip
EXAMPLES = (
    "headatlas show induction",
    "headatlas who gpt2 L10H7",
    "headatlas run induction --model specimen",
    "headatlas census gpt2 --dry-run",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where a finding failed to reproduce; 2 for a mistake the user can correct, printed as one clear line.
    """
    streams.prepare()
    _share_cores()
    try:
        with _interrupts_in_destructors():
            try:
                options = parser().parse_args(arguments)
                code = int(options.command(options))
            finally:
                sys.stdout.flush()  # what does not fit on a disk is found out here, not after the end
        return code
    except BrokenPipeError:
        streams.drop(sys.stdout)
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return mistakes.tell(error)


def _share_cores() -> None:
    """Let torch's threads wait asleep, unless the user set how they wait; read when torch is first imported.

    By default they spin, and then two commands on the same cores slow each other down by a factor of six instead of
    two; alone, a command gains 8% by spinning.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


@contextmanager
def _interrupts_in_destructors() -> Iterator[None]:
    """Send Ctrl-C again where it fell into a destructor, whose exceptions Python drops."""
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        main_thread = threading.main_thread().ident  # where a signal ends a wait; sent elsewhere it would not
        threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGINT)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands and their options."""
    top = argparse.ArgumentParser(
        prog="headatlas",
        usage="headatlas [-h] COMMAND ...",
        description="Look up the attention heads that papers describe, and test each finding on your\nmodel.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(prog="headatlas", metavar="COMMAND", help=argparse.SUPPRESS)
    for part in (catalog, who, results, run, census, compare, identify, model, view, fetching, contribute):
        part.add_to(commands)
    top.epilog = _listed(commands.choices)
    top.set_defaults(command=lambda _: print(top.format_help(), end="") or 0)
    return top


def _listed(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """All commands by group, each with its line, then examples."""
    width = max(map(len, commands)) + 2
    groups = [
        "\n".join([f"{title}:", *(f"  {name:{width}}{_line(commands[name])}" for name in names)])
        for title, names in GROUPS.items()
    ]
    examples = ["examples:", *(f"  {example}" for example in EXAMPLES)]
    more = "headatlas COMMAND --help explains one command, with an example."
    return "\n\n".join([*groups, "\n".join(examples), more])


def _line(command: argparse.ArgumentParser) -> str:
    said = (command.description or "").rstrip(".")
    return said[:1].lower() + said[1:]
