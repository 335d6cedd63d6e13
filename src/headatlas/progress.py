"""Callbacks through which long work reports progress and notices."""

from collections.abc import Callable

# Called with the current task, the amount done, and the total.
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Ignore the call."""


# Called with one line that the user must see.
Notify = Callable[[str], None]


def no_notice(line: str) -> None:
    """Ignore the call."""


def counter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """A function that counts how much of some work is done, and reports it to `progress`."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    progress(what, 0, total)
    return step
