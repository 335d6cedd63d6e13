"""Processes that share work on one model: each opens the model for itself and uses one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headatlas.errors import HeadatlasError
from headatlas.protocol.model_options import ModelOptions

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.lab import OpenModel

_at_work: tuple[Catalog, OpenModel] | str | None = None  # or why the model could not be opened


@contextmanager
def pool(jobs: int, model: str, options: ModelOptions) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes with the model open in each; work that is submitted finds it by `opened`.

    Raises:
        HeadatlasError: where a process dies.
    """
    executor = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_open, initargs=(model, options)
    )
    try:
        yield executor
    except BrokenProcessPool:
        raise HeadatlasError("a process died, perhaps for lack of memory; run again with --jobs 1") from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def opened() -> tuple[Catalog, OpenModel]:
    """In a process of a pool: the catalog and the model.

    Raises:
        HeadatlasError: where the model could not be opened.
    """
    if isinstance(_at_work, str):
        raise HeadatlasError(_at_work)
    assert _at_work is not None
    return _at_work


def _open(model: str, options: ModelOptions) -> None:
    """Open the model. A refusal is kept for the user: an error here would look like a process that died."""
    global _at_work
    start_as_worker()
    import torch

    from headatlas import load
    from headatlas.lab import open_model

    torch.set_num_threads(1)
    try:
        _at_work = load(), open_model(model, **options.keywords())
    except HeadatlasError as error:
        _at_work = str(error)


def start_as_worker() -> None:
    """End this process without a message on Ctrl-C, and end it when the process that started it ends.

    The processes of a pool otherwise wait for ever where the process that feeds them is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
