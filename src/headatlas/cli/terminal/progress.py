"""Shows the progress of a long run: lines that stay in place on a terminal, or a line every half minute."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from headatlas.cli.terminal.time_left import Rounded, Schedule, Status, TaskStatus, clock_text
from headatlas.progress import RunProgress, Task

_EVERY = 30.0  # seconds between two lines
_BAR = 24  # columns, at most


class ProgressBar(RunProgress):
    """Progress on stderr: what is done, what runs, the time gone and the time left.

    If stderr is no terminal, a line every half minute.
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._console, self._title = console, title
        self._lock = threading.RLock()  # worker processes report from a thread of their own
        self._begun = self._told = time.monotonic()
        self._what, self._amount = "", (0, 0)
        self._schedule: Schedule | None = None
        self._rounded: dict[str, Rounded] = {}
        self._spinner = Spinner("dots")
        self._plain = not console.is_terminal
        self._live = Live(console=console, get_renderable=self._screen, refresh_per_second=4, transient=True)
        self._ended = threading.Event()

    def __enter__(self) -> "ProgressBar":
        if self._plain:
            threading.Thread(target=self._beat, daemon=True).start()
        else:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if not self._plain:
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the progress while active, so that other lines can be printed."""
        if self._plain:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def tell(self, line: str) -> None:
        """Print one permanent line to stderr."""
        with self.paused():
            print(f"headatlas: {line}", file=sys.stderr, flush=True)

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            self._what, self._amount = what, (done, total)
        self._tell_now_and_then()

    def plan(self, tasks: Sequence[Task], workers: int = 1, before: int = 0) -> None:
        with self._lock:
            self._schedule = Schedule(tasks, workers, before, clock=lambda: time.monotonic())
            self._what = ""

    def step(self, id: str, what: str, done: int, total: int) -> None:
        with self._lock:
            if self._schedule:
                self._what = ""
                self._schedule.step(id, what, done, total)
            else:
                self._what, self._amount = f"{id}: {what}", (done, total)
        self._tell_now_and_then()

    def end(self, id: str) -> None:
        with self._lock:
            if self._schedule:
                self._schedule.end(id)

    def lines(self, width: int = 200) -> list[str]:
        """What is shown now: a line for the whole, and a line for each task that runs."""
        with self._lock:
            gone = time.monotonic() - self._begun
            if self._schedule is None or self._what:
                done, total = self._amount
                counted = f" ({done} of {total})" if total else ""
                said = f"{self._title}: {self._what}" if self._what else self._title
                return [f"{_cut(said, width - len(counted) - 14)}{counted}, {clock_text(gone)} gone"]
            status = self._schedule.status()
            if status.total == 1 and status.running:
                return [self._of_task(f"{self._title} ", status.running[0], width)]
            whole = f"{self._title}: {status.done} of {status.total} done, {clock_text(gone)} gone"
            return [whole + self._left("", status.left), *(self._of_task("  ", each, width) for each in status.running)]

    def _of_task(self, before: str, task: TaskStatus, width: int) -> str:
        share = "" if task.share is None else f" {task.share:.0%}"
        times = f"{share}, {clock_text(task.gone)} gone{self._left(task.id, task.left)}"
        return _cut(f"{before}{task.id}: {task.what}", width - len(times)) + times

    def _left(self, id: str, left: float | None) -> str:
        if left is None:
            return ""
        return f", {self._rounded.setdefault(id, Rounded()).text(left)} left"

    # --- on a terminal ----------------------------------------------------------------------------------------------

    def _screen(self) -> RenderableType:
        first, *others = self.lines(self._console.width - 3)
        table = Table.grid(padding=(0, 1))
        row: list[RenderableType] = [self._spinner, Text(first, no_wrap=True, overflow="ellipsis")]
        share, width = self._share(), min(_BAR, self._console.width - len(first) - 4)
        if share is not None and width >= 8:
            row.append(Bar(total=1.0, completed=share, width=width))
        table.add_row(*row)
        return Group(table, *(Text(line, no_wrap=True, overflow="ellipsis", style="dim") for line in others))

    def _share(self) -> float | None:
        """How much of the whole is done, from 0 to 1."""
        with self._lock:
            if self._schedule is None or self._what:
                done, total = self._amount
                return done / total if total else None
            status: Status = self._schedule.status()
            if status.left is None:
                return 0.0
            gone = time.monotonic() - self._begun
            return gone / max(gone + status.left, 1e-9)

    # --- in a log ---------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            self._tell_now_and_then()

    def _tell_now_and_then(self) -> None:
        with self._lock:
            if self._plain and time.monotonic() - self._told >= _EVERY:
                self._told = time.monotonic()
                first, *others = (line.strip() for line in self.lines())
                print("; ".join([first, *others]), file=sys.stderr, flush=True)


def _cut(text: str, width: int) -> str:
    """A text, cut to a number of columns."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
