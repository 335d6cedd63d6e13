"""How long work tells of its progress."""

from collections.abc import Callable

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


# Called with one line that the user must read, whatever becomes of the work.
Notify = Callable[[str], None]


def no_notice(line: str) -> None:
    """Tell nobody."""


def counter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """A function that counts how much of some work is done, and tells `progress` of it."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    progress(what, 0, total)
    return step
