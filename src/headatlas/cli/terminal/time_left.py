"""Estimates the time left in a run of many tasks, from expected work and from the seconds measured so far."""

import heapq
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headatlas.progress import Step, Task

_PRIOR = 0.02  # of all expected work: a kind of work done less than this goes mostly by the speed of the others
_ENOUGH = 0.01  # of all expected work must be done before any estimate is made
_NEEDED = 1  # steps of a kind that are taken to have been needed, before any is seen
_STEADY = 20.0, 60.0  # seconds over which an estimate follows what is measured, at least and at most


@dataclass
class _Running:
    """A task that runs: when it and its present step began, and how much of that step is done."""

    task: Task
    begun: float
    since: float
    what: str = ""
    index: int = -1  # of the present step among those of the task; -1 before the first
    share: float = 0.0  # of the present step
    total: int = 0  # of which the share was told

    @property
    def step(self) -> Step | None:
        return self.task.steps[self.index] if self.index >= 0 else None


@dataclass(frozen=True)
class TaskStatus:
    """A task that runs. `share` is None if it is not known, `left` if there is no estimate yet; both in seconds."""

    id: str
    what: str
    share: float | None
    gone: float
    left: float | None


@dataclass(frozen=True)
class Status:
    """A run of many tasks: findings done and in all, seconds left (None: no estimate yet), and what runs now."""

    done: int
    total: int
    left: float | None
    running: tuple[TaskStatus, ...]


class Schedule:
    """Follows a run of many tasks and estimates how long the rest takes.

    The seconds that a step takes are its weight times the seconds per weight of its kind so far, times the share of
    steps of that kind that were needed; for the step that runs they are blended with its own speed. Tasks are laid out
    over the workers in the order in which they start, so that a long last task counts in full.
    """

    def __init__(
        self, tasks: Sequence[Task], workers: int = 1, before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._workers = clock, max(workers, 1)
        self._waiting = {task.id: task for task in tasks}
        self._running: dict[str, _Running] = {}
        self._done, self._total = before, before + sum(task.count for task in tasks)
        self._all = sum(task.weight for task in tasks) or 1.0
        self._seconds: defaultdict[str, float] = defaultdict(float)  # by kind of work, of steps that ended
        self._work: defaultdict[str, float] = defaultdict(float)
        self._needed: defaultdict[str, int] = defaultdict(int)  # steps by kind of work, of tasks that ran
        self._skipped: defaultdict[str, int] = defaultdict(int)
        self._left = Smooth()
        self._each: dict[str, Smooth] = {}

    def step(self, id: str, what: str, done: int, total: int) -> None:
        """Note how far a task is. Calls for tasks that are not planned, or have ended, change nothing."""
        now = self._clock()
        if id in self._waiting:
            self._running[id] = _Running(self._waiting.pop(id), now, now)
            self._each[id] = Smooth()
        run = self._running.get(id)
        if run is None:
            return
        run.what = what
        steps = run.task.steps
        place = next((n for n in range(max(run.index, 0), len(steps)) if steps[n].what == what), None)
        if place is None:
            return
        if place != run.index:
            self._leave(run, place, now)
        elif total and done == 0 and run.share > 0:  # the step begins anew, on other prompts
            self._seconds[steps[place].kind] += now - run.since
            run.since, run.share, run.total = now, 0.0, 0
        if total:
            share = min(done / total, 1.0)  # interventions that go on past a look have a larger total
            run.share, run.total = share if total > run.total else max(run.share, share), total

    def end(self, id: str) -> None:
        """Note that a task is done. One that ended before its first step says nothing of the others."""
        run = self._running.pop(id, None)
        task = run.task if run else self._waiting.pop(id, None)
        if run and run.step:
            self._leave(run, len(run.task.steps), self._clock())
        if task:
            self._done += task.count

    def _leave(self, run: _Running, place: int, now: float) -> None:
        """Go on to a later step of a task; `place` is its index."""
        if run.step:
            self._seconds[run.step.kind] += now - run.since
            self._work[run.step.kind] += run.step.weight
            self._needed[run.step.kind] += 1
        for step in run.task.steps[run.index + 1 : place]:
            self._skipped[step.kind] += 1
        run.index, run.since, run.share, run.total = place, now, 0.0, 0

    def status(self) -> Status:
        """Where the run is now."""
        now = self._clock()
        rate = self._rates(now)
        running = tuple(self._task_status(run, rate, now) for run in self._running.values())
        left = None
        if rate is not None:
            lefts = [each.left or 0.0 for each in running]
            left = self._left.at(self._whole(lefts, rate), now)
        return Status(self._done, self._total, left, running)

    def _task_status(self, run: _Running, rate: Callable[[Step], float] | None, now: float) -> TaskStatus:
        share = run.share if run.share > 0 else None
        left = None
        if rate is not None:
            left = self._each[run.task.id].at(self._left_of(run, rate, now), now)
        return TaskStatus(run.task.id, run.what, share, now - run.begun, left)

    def _rates(self, now: float) -> Callable[[Step], float] | None:
        """The expected seconds of a step; None while too little is done to say."""
        seconds, work = dict(self._seconds), dict(self._work)
        for run in self._running.values():
            if run.step and run.share > 0:
                kind = run.step.kind
                seconds[kind] = seconds.get(kind, 0.0) + now - run.since
                work[kind] = work.get(kind, 0.0) + run.step.weight * run.share
        done, prior = sum(work.values()), _PRIOR * self._all
        if done < _ENOUGH * self._all or not sum(seconds.values()):
            return None
        usual = sum(seconds.values()) / done
        return lambda step: (
            step.weight * (seconds.get(step.kind, 0.0) + prior * usual) / (work.get(step.kind, 0.0) + prior)
        )

    def _chance(self, step: Step) -> float:
        """How likely a step is needed."""
        needed = self._needed[step.kind] + _NEEDED
        return needed / (needed + self._skipped[step.kind])

    def _whole(self, running: Sequence[float], rate: Callable[[Step], float]) -> float:
        """Seconds until all is done, with each waiting task given to the first worker that is free."""
        free = [*running, *[0.0] * max(self._workers - len(running), 0)]
        heapq.heapify(free)
        for task in self._waiting.values():
            heapq.heappush(free, heapq.heappop(free) + self._later(task.steps, rate))
        return max(free)

    def _later(self, steps: Sequence[Step], rate: Callable[[Step], float]) -> float:
        """Expected seconds of steps that have not begun."""
        return sum(rate(step) * self._chance(step) for step in steps)

    def _left_of(self, run: _Running, rate: Callable[[Step], float], now: float) -> float:
        """Expected seconds until a running task is done."""
        later, gone, share = self._later(run.task.steps[run.index + 1 :], rate), now - run.since, run.share
        if run.step is None:
            return max(later - gone, 0.0)
        expected = rate(run.step)
        if share <= 0:  # a step that takes longer than expected is expected to take longer still
            return later + max(expected - gone, 0.2 * gone)
        trust = share / (share + 0.1)
        return later + trust * gone * (1 - share) / share + (1 - trust) * expected * (1 - share)


class Smooth:
    """An estimate of seconds left that falls with the clock, and follows what is measured without jumps."""

    def __init__(self) -> None:
        self._left: float | None = None
        self._then = 0.0

    def at(self, measured: float, now: float) -> float:
        """The estimate now, given what the latest measurements say."""
        if self._left is None:
            self._left, self._then = measured, now
        elapsed = now - self._then
        falling = max(self._left - elapsed, 0.0)
        weight = 1 - math.exp(-elapsed / min(max(_STEADY[0], 0.1 * falling), _STEADY[1]))
        self._left, self._then = falling + weight * (measured - falling), now
        return self._left


class Rounded:
    """Writes seconds left as text, and changes the text only if the seconds have moved by most of a step."""

    def __init__(self) -> None:
        self._shown: float | None = None

    def text(self, left: float) -> str:
        """'about 4 min', 'a few seconds'."""
        if self._shown is None or abs(left - self._shown) >= 0.75 * _grain(left):
            self._shown = round(left / _grain(left)) * _grain(left)
        return about(self._shown)


def _grain(seconds: float) -> float:
    """To how many seconds a time left is rounded."""
    steps = ((60, 10), (600, 60), (3600, 300), (36_000, 600))
    return float(next((grain for below, grain in steps if seconds < below), 3600))


def about(seconds: float) -> str:
    """A time left as text, rounded to what an estimate can know: 'about 4 min', 'about 1 h 20 min'."""
    rounded = round(seconds / _grain(seconds)) * _grain(seconds)
    return f"about {clock_text(rounded)}" if rounded >= 10 else "a few seconds"


def clock_text(seconds: float) -> str:
    """A time as text: '48 s', '8 min', '1 h 05 min'."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
