"""The exit code of a tool: 0, or 2 with one line that says what to do."""

import sys
from collections.abc import Callable

from headatlas import HeadatlasError

MISTAKE = 2


def code_of(work: Callable[[], None], tool: str, interrupted: str) -> int:
    """Run the work, and print one line for a user error or Ctrl-C.

    Args:
        work: the function to run.
        tool: the tool's name, which begins the line.
        interrupted: message after Ctrl-C.

    Returns:
        The exit code: 0, or 2 after a line on standard error.
    """
    try:
        work()
    except HeadatlasError as error:
        print(f"{tool}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{tool}: interrupted; {interrupted}", file=sys.stderr)
    else:
        return 0
    return MISTAKE
