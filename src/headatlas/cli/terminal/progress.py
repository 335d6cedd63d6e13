"""Shows the progress of a long run: a bar on a terminal, or a line every half minute."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

_EVERY = 30.0  # seconds between two lines


class ProgressBar:
    """A progress bar on stderr; if stderr is no terminal, a line every half minute."""

    def __init__(self, title: str) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        self._bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._plain, self._told = not console.is_terminal, time.monotonic()
        self._title = title
        self._task = self._bars.add_task(title, total=None)

    def __enter__(self) -> "ProgressBar":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while active, so that other lines can be printed."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def tell(self, line: str) -> None:
        """Print one permanent line to stderr."""
        with self.paused():
            print(f"headatlas: {line}", file=sys.stderr, flush=True)

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bars.update(self._task, description=f"{self._title}: {what}", completed=done, total=total or None)
        if self._plain and time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            print(f"{self._title}: {what}" + (f" ({done} of {total})" if total else ""), file=sys.stderr, flush=True)
