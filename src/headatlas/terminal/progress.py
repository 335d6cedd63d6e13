"""A progress bar while something long runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """A bar on stderr while something long runs; nothing where stderr is no terminal."""

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
        self._title = title
        self._task = self._bars.add_task(title, total=None)

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While active, the bar is off the screen, so that something can be printed."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    def __call__(self, what: str, done: int, total: int) -> None:
        self._bars.update(self._task, description=f"{self._title}: {what}", completed=done, total=total or None)
