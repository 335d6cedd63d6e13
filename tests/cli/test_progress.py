"""What a long run shows: lines that stay in place on a terminal, else now and then a line in a log."""

import io
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from headatlas.cli.terminal import progress
from headatlas.cli.terminal.progress import ProgressBar
from headatlas.progress import Step, Task

TASKS = [
    Task(id, (Step("scores of all heads", "own", weight), Step("interventions", "interventions", 3 * weight)))
    for id, weight in (("sentiment-summarizer", 10.0), ("induction", 8.0), ("inhibition", 2.0))
]


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    yield made


def test_a_line_every_half_minute(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    """Where stderr is no terminal; a short run says nothing."""
    with ProgressBar("running") as tell:
        for second in range(65):
            clock.now = float(second)
            tell("scores", second, 100)
        clock.now = 200.0
        tell("opening", 0, 0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "running: scores (30 of 100), 30 s gone",
        "running: scores (60 of 100), 1 min gone",
        "running: opening, 3 min gone",
    ]


def test_a_log_says_what_runs_and_the_time_left(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with ProgressBar("running") as tell:
        tell.plan(TASKS, workers=2, before=10)
        for second in range(101):
            clock.now = float(second)
            tell.step("sentiment-summarizer", "scores of all heads", second, 100)
            tell.step("induction", "scores of all heads", second, 100)
    first, second, third = capsys.readouterr().err.splitlines()
    assert re.sub(r"about \d min", "about N min", first) == (
        "running: 10 of 13 done, 30 s gone, about N min left; "
        "sentiment-summarizer: scores of all heads 30%, 30 s gone, about N min left; "
        "induction: scores of all heads 29%, 30 s gone, about N min left"
    )
    for line, gone in ((first, 30), (second, 60), (third, 90)):  # a quarter of the first two is 100 s
        (left,) = re.findall(r"done, .* gone, about (\d+) min left", line.partition(";")[0])
        assert abs(60 * int(left) - (400 - gone)) <= 90


def test_one_finding_has_one_line(clock: Clock) -> None:
    tell = ProgressBar("running")
    tell.plan(TASKS[:1])
    tell.step("sentiment-summarizer", "scores of all heads", 0, 10)
    assert tell.lines() == ["running sentiment-summarizer: scores of all heads, 0 s gone"]
    clock.now = 20.0
    tell.step("sentiment-summarizer", "scores of all heads", 10, 10)
    assert tell.lines() == ["running sentiment-summarizer: scores of all heads 100%, 20 s gone, about 1 min left"]


def test_work_before_the_plan_is_shown_by_its_name(clock: Clock) -> None:
    tell = ProgressBar("running")
    assert tell.lines() == ["running, 0 s gone"]
    tell("opening gpt2", 0, 0)
    assert tell.lines() == ["running: opening gpt2, 0 s gone"]
    tell.plan(TASKS)
    assert tell.lines() == ["running: 0 of 3 done, 0 s gone"]
    tell.end("induction")
    assert tell.lines() == ["running: 1 of 3 done, 0 s gone"]


def test_a_terminal_of_80_columns_is_wide_enough(clock: Clock) -> None:
    """Names are cut, times are not."""
    screen = io.StringIO()
    tell = ProgressBar("running", Console(file=screen, width=80, height=24, force_terminal=True, color_system=None))
    with tell:
        tell.plan(TASKS, workers=2, before=40)
        for id in ("sentiment-summarizer", "induction"):
            tell.step(id, "scores of all heads", 0, 10)
        clock.now = 7300.0
        tell.step("sentiment-summarizer", "scores of all heads", 9, 10)
    lines = tell.lines(80)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("running: 40 of 43 done, 2 h 01 min gone, about ") and lines[0].endswith(" min left")
    assert lines[1].startswith("  sentiment-summarizer: scores of a… 90%, 2 h 01 min gone, about ")
    assert lines[1].endswith(" min left") and lines[2].endswith(" min left") and len(lines[1]) == 80
    assert "40 of 43 done" in screen.getvalue()


def test_permanent_lines_come_between(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with ProgressBar("running", Console(file=screen, width=80, force_terminal=True)) as tell:
        tell.tell("a notice")
        with tell.paused():
            before = screen.getvalue()
            tell("scores", 1, 2)
            assert screen.getvalue() == before
    assert capsys.readouterr().err == "headatlas: a notice\n"
