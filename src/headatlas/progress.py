"""Callbacks through which long work reports progress and notices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def seed_name(seed: int, what: str) -> str:
    """The name of a step in a run with several seeds."""
    return f"seed {seed}, {what}"


@dataclass(frozen=True)
class Step:
    """A step of a task, and how much work it is expected to be.

    Attributes:
        what: the name under which the step reports progress.
        kind: of work; the seconds that a weight takes are learned for each kind.
        weight: expected work, relative to other steps.
    """

    what: str
    kind: str
    weight: float


@dataclass(frozen=True)
class Task:
    """A task of a run of many: one finding, or several head types that are measured together.

    Attributes:
        id: its name.
        steps: in order; a step may turn out not to be needed.
        count: of findings or head types in it.
    """

    id: str
    steps: tuple[Step, ...]
    count: int = 1

    @property
    def weight(self) -> float:
        """The expected work of all its steps."""
        return sum(step.weight for step in self.steps)


class RunProgress:
    """Receives the progress of a run of many tasks. This one ignores all of it; a display overrides the methods."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Work that belongs to no task, such as opening the model."""

    def plan(self, tasks: Sequence[Task], workers: int = 1, before: int = 0) -> None:
        """What is going to run.

        Args:
            tasks: in the order in which they start.
            workers: how many run at the same time.
            before: how many findings are done already.
        """

    def step(self, id: str, what: str, done: int, total: int) -> None:
        """How far one task is; the first call starts it."""

    def end(self, id: str) -> None:
        """One task is done."""

    def of(self, id: str) -> Progress:
        """A callback for the steps of one task."""
        return lambda what, done, total: self.step(id, what, done, total)
