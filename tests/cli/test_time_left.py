"""The time left in a run of many: right in the end, steady on the way, rounded to what an estimate can know."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest

from headatlas.cli.terminal.time_left import Rounded, Schedule, Smooth, Status, about, clock_text
from headatlas.progress import Step, Task

TICK = 1.0  # seconds between two looks


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tasks(count: int, seed: int = 0) -> list[Task]:
    """Tasks of which the largest is 30 times the smallest, largest first."""
    rng = random.Random(seed)
    sizes = sorted((rng.uniform(1, 30) for _ in range(count)), reverse=True)
    return [Task(f"t{n}", (Step("look", "look", size), Step("move", "move", 3 * size))) for n, size in enumerate(sizes)]


def played(
    planned: Sequence[Task], seconds: Callable[[Task, Step], float], workers: int = 1
) -> Iterator[tuple[float, Status]]:
    """Run tasks as workers would, on a clock of our own; yields the time and the status at every tick, and the end."""
    clock = Clock()
    schedule = Schedule(planned, workers, clock=clock)
    waiting = [(task, [(step, seconds(task, step)) for step in task.steps]) for task in planned]
    running: list[tuple[Task, list[tuple[Step, float]], float]] = []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append((*waiting.pop(0), 0.0))
        for task, steps, gone in running:
            step, whole = steps[0]
            schedule.step(task.id, step.what, int(100 * gone / whole), 100)
        yield clock.now - 1000, schedule.status()
        clock.now += TICK
        still = []
        for task, steps, gone in running:
            after = gone + TICK
            while steps and after >= steps[0][1]:
                after -= steps.pop(0)[1]
            if steps:
                still.append((task, steps, after))
            else:
                schedule.end(task.id)
        running = still
    yield clock.now - 1000, schedule.status()


def steady(seen: Sequence[tuple[float, Status]]) -> None:
    """The estimate never jumps: from tick to tick it moves by little more than the clock."""
    known = [(now, status.left) for now, status in seen if status.left is not None]
    assert known
    for (_, before), (_, after) in pairwise(known):
        assert after >= 0
        assert abs(after - before + TICK) <= 0.06 * max(before, after) + 2 * TICK


@pytest.mark.parametrize("workers", [1, 3])
def test_an_estimate_from_right_weights_is_right_all_along(workers: int) -> None:
    seen = list(played(tasks(20), lambda task, step: 1.7 * step.weight, workers))
    end = seen[-1][0]
    for now, status in seen:
        if now > 0.05 * end and now < end - 10:
            assert status.left is not None and status.left == pytest.approx(end - now, rel=0.15, abs=10)
    steady(seen)
    assert seen[-1][1].done == seen[-1][1].total == 20 and seen[-1][1].running == ()


def test_wrong_weights_are_corrected_as_the_run_goes() -> None:
    rng = random.Random(1)
    wrong = {task.id: rng.lognormvariate(0, 1) for task in tasks(40)}
    seen = list(played(tasks(40), lambda task, step: wrong[task.id] * step.weight * (5 if step.kind == "move" else 1)))
    end = seen[-1][0]
    for now, status in seen:
        if 0.3 * end < now < 0.9 * end:
            assert status.left is not None and 0.5 < status.left / (end - now) < 2
    steady(seen)


def test_steps_that_are_not_needed_make_the_estimate_fall_and_not_jump() -> None:
    seen = list(played(tasks(20), lambda task, step: 1e-6 if step.kind == "move" else step.weight))
    steady(seen)
    end = seen[-1][0]
    for now, status in seen:
        if now > 0.5 * end:  # it began with four times as much
            assert status.left is not None and status.left < 2.2 * (end - now) + 10


def test_a_task_that_ends_at_once_says_nothing_of_the_others() -> None:
    """A large finding whose prompts cannot be made is no sign that the others take no time."""
    clock = Clock()
    planned = [Task("untestable", (Step("x", "x", 50),)), *(Task(f"t{n}", (Step("x", "x", 10),)) for n in range(4))]
    schedule = Schedule(planned, clock=clock)
    schedule.step("untestable", "drawing prompts", 0, 0)
    clock.now += 0.3
    schedule.end("untestable")
    assert schedule.status().left is None
    schedule.step("t0", "x", 0, 10)
    clock.now += 20
    schedule.step("t0", "x", 5, 10)
    left = schedule.status().left
    assert left == pytest.approx(20 + 3 * 40, rel=0.2)


def test_steps_that_are_often_skipped_count_for_less() -> None:
    clock = Clock()
    steps = (Step("x", "x", 1), Step("costly", "costly", 100))
    schedule = Schedule([Task(f"t{n}", steps) for n in range(20)], clock=clock)
    lefts = []
    for number in range(19):
        schedule.step(f"t{number}", "x", 0, 0)
        clock.now += 30
        if number == 0:
            schedule.step("t0", "costly", 0, 0)
            clock.now += 1000
        schedule.end(f"t{number}")
        lefts.append(schedule.status().left or 0.0)
    assert lefts[0] == pytest.approx(19 * 1030, rel=0.1)
    assert lefts[-1] < 0.4 * 1030


def test_a_long_last_task_counts_in_full() -> None:
    """Two workers, and one task that is longer than all others together."""
    planned = [Task("long", (Step("x", "x", 100),)), *(Task(f"s{n}", (Step("x", "x", 5),)) for n in range(8))]
    seen = list(played(planned, lambda task, step: 2 * step.weight, workers=2))
    now, status = seen[60]
    assert status.left == pytest.approx(200 - now, rel=0.1)


def test_a_step_that_says_nothing_of_itself_is_expected_to_end() -> None:
    clock = Clock()
    schedule = Schedule([Task("a", (Step("x", "x", 1),)), Task("b", (Step("x", "x", 1),))], clock=clock)
    schedule.step("a", "x", 0, 0)
    clock.now += 50
    assert schedule.status().left is None
    schedule.end("a")
    schedule.step("b", "x", 0, 0)
    lefts = []
    for _ in range(300):
        clock.now += 1
        (task,) = schedule.status().running
        assert task.share is None and task.left is not None
        lefts.append(task.left)
    assert lefts[0] == pytest.approx(49, abs=1) and lefts[20] == pytest.approx(29, abs=2)
    assert min(lefts) >= 0 and lefts[-1] > 10  # it takes longer than the first did, and nobody knows how long


def test_unknown_and_late_reports_change_nothing() -> None:
    schedule = Schedule([Task("a", (Step("x", "x", 1),))], clock=Clock())
    schedule.step("other", "x", 1, 2)
    schedule.step("a", "something else", 1, 2)
    (task,) = schedule.status().running
    assert (task.id, task.what, task.share) == ("a", "something else", None)
    schedule.end("a")
    schedule.step("a", "x", 1, 2)
    assert schedule.status().running == () and schedule.status().done == 1


def test_findings_that_are_done_before_and_types_measured_together_are_counted() -> None:
    schedule = Schedule([Task("five", (), 5), Task("one", (), 1)], before=3, clock=Clock())
    assert (schedule.status().done, schedule.status().total) == (3, 9)
    schedule.end("five")
    assert schedule.status().done == 8


def test_a_share_falls_where_there_is_more_to_do_than_was_said() -> None:
    schedule = Schedule([Task("a", (Step("x", "x", 1),))], clock=Clock())
    for done, total, share in ((40, 68, 40 / 68), (60, 68, 60 / 68), (68, 110, 68 / 110), (40, 110, 68 / 110)):
        schedule.step("a", "x", done, total)
        assert schedule.status().running[0].share == pytest.approx(share)


def test_a_share_never_falls() -> None:
    schedule = Schedule([Task("a", (Step("x", "x", 1), Step("y", "y", 1)))], clock=Clock())
    for done in (1, 3, 2):
        schedule.step("a", "x", done, 4)
    assert schedule.status().running[0].share == 0.75
    schedule.step("a", "y", 1, 4)
    schedule.step("a", "x", 4, 4)  # a step does not come back
    assert schedule.status().running[0].share == 0.25


def test_a_step_that_begins_anew_costs_what_it_has_cost() -> None:
    clock = Clock()
    schedule = Schedule([Task("a", (Step("x", "x", 1),)), Task("b", (Step("x", "x", 1),))], clock=clock)
    schedule.step("a", "x", 0, 4)
    clock.now += 40
    schedule.step("a", "x", 4, 4)
    schedule.step("a", "x", 0, 8)
    assert schedule.status().running[0].share is None
    clock.now += 20
    schedule.step("a", "x", 4, 8)
    assert schedule.status().running[0].share == 0.5
    clock.now += 20
    schedule.end("a")
    left = schedule.status().left
    assert left is not None and left > 60  # b may take twice its time too


def test_an_estimate_follows_a_measurement_in_steps() -> None:
    smooth = Smooth()
    assert smooth.at(100, 0) == 100
    assert smooth.at(300, 1) < 115
    assert smooth.at(300, 200) == pytest.approx(300, rel=0.01)
    assert smooth.at(0, 10_000) >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "a few seconds"),
        (4, "a few seconds"),
        (8, "about 10 s"),
        (44, "about 40 s"),
        (58, "about 1 min"),
        (200, "about 3 min"),
        (1000, "about 15 min"),
        (3500, "about 1 h 00 min"),
        (5100, "about 1 h 20 min"),
        (40_000, "about 11 h 00 min"),
    ],
)
def test_time_left_is_rounded(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_the_text_does_not_flicker() -> None:
    rounded = Rounded()
    said = [rounded.text(left) for left in (205, 211, 208, 212, 209, 214)]
    assert len(set(said)) == 1
    assert rounded.text(130) != said[0]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3900, "1 h 05 min")])
def test_time_gone(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
