"""The command line: parse, call the library, print."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from headatlas.cli.commands import catalog, census, compare, fetching, identify, mistakes, model, run, streams, view


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
        description="Look up the attention heads that papers describe, and test each finding on your model.",
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for part in (catalog, run, census, compare, identify, model, view, fetching):
        part.add_to(commands)
    return top
