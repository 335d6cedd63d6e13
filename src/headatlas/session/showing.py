"""Shows progress and pictures: in a notebook, and where there is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

from headatlas.progress import Progress


class Shown(Protocol):
    """Anything that a notebook can display, and a terminal can print."""

    def _repr_html_(self) -> str: ...


def show(picture: Shown) -> None:
    """Display a picture in a notebook; elsewhere print its text."""
    shell = sys.modules.get("IPython")
    if shell is not None and (running := shell.get_ipython()) is not None and running.has_trait("kernel"):
        from IPython.display import display

        display(picture)
    else:
        print(picture)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A line on standard error that says what is being done and how far it is; it is gone at the end."""
    with tqdm(desc=title, leave=False, file=sys.stderr, bar_format="{desc} {n_fmt}/{total_fmt} [{elapsed}]") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(f"{title}: {what}", refresh=False)
            bar.refresh()

        yield progress
