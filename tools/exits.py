"""How a tool ends: 0, or 2 and one line that says what to do."""

import sys
from collections.abc import Callable

from headatlas import HeadatlasError

MISTAKE = 2


def code_of(work: Callable[[], None], tool: str, interrupted: str) -> int:
    """Do the work, and say of a mistake or of Ctrl-C what became of it.

    Args:
        work: to do.
        tool: the name that begins the line.
        interrupted: what holds after Ctrl-C.

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
