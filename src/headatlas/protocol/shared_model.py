"""One open model for several processes, in one copy.

The first process opens the model. If its weights are in a file that the system maps into memory, the others open it
too, and the system shares the pages. Else the first hands the model over (`headatlas.lab.loading.handing_over`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.protocol.model_options import ModelOptions

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.lab import OpenModel

LEAST = 32 * 2**20  # bytes of weights below which every process has a copy of its own


@dataclass(frozen=True)
class ModelRequest:
    """A model, how it is opened, and where it may be handed over.

    Attributes:
        name, options: of the model.
        place: a file in memory or on disk.
        least: bytes of weights of its own from which a model is handed over.
    """

    name: str
    options: ModelOptions
    place: str
    least: int


@dataclass(frozen=True)
class SharedModel:
    """A model that a worker has opened; `handed` says whether the others find it at the place of the request."""

    request: ModelRequest
    handed: bool


@contextmanager
def place_to_hand_over() -> Iterator[str]:
    """A file through which a model can be handed over: in memory where the system has such files, else on disk."""
    number = _file_in_memory()
    if number is not None:
        try:
            yield _path_of(number)
        finally:
            os.close(number)
        return
    handle, path = tempfile.mkstemp(prefix="headatlas-", suffix=".model")
    os.close(handle)
    try:
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _path_of(number: int) -> str:
    """Where other processes find an open file of this one."""
    return f"/proc/{os.getpid()}/fd/{number}"


def _file_in_memory() -> int | None:
    """An open file without a place on disk; None where the system has none, or no path to it."""
    try:
        number = os.memfd_create("headatlas")
    except (AttributeError, OSError):
        return None
    if Path(_path_of(number)).exists():
        return number
    os.close(number)
    return None


# --- in one of the processes ------------------------------------------------------------------------------------

_at_work: tuple[Catalog, OpenModel] | None = None


def open_first(request: ModelRequest) -> SharedModel:
    """Open the model in this worker, and make its weights ready to be shared.

    Raises:
        HeadatlasError: where the model cannot be opened.
    """
    global _at_work
    from headatlas import load
    from headatlas.lab import open_model
    from headatlas.lab.loading import handing_over

    model, handed = open_model(request.name, **request.options.keywords()), False
    if handing_over.own_bytes(model) >= request.least:
        model, handed = handing_over.hand_over(model, request.place, request.options.trust_remote_code)
    handing_over.give_memory_back()
    _at_work = load(), model
    return SharedModel(request, handed)


def opened(shared: SharedModel) -> tuple[Catalog, OpenModel]:
    """In a worker: the catalog and the model.

    Raises:
        HeadatlasError: where the model cannot be opened.
    """
    global _at_work
    if _at_work is None:
        from headatlas import load

        _at_work = load(), _opened(shared)
    return _at_work


def _opened(shared: SharedModel) -> OpenModel:
    from headatlas.lab import open_model
    from headatlas.lab.loading import handing_over

    request = shared.request
    if shared.handed:
        return handing_over.take_over(request.place, request.options.trust_remote_code)
    return open_model(request.name, **request.options.keywords())
