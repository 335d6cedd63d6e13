"""Processes that share work on one model and one copy of its weights; each uses one thread.

The process that starts them loads neither torch nor the model. The first worker opens the model. If the weights are a
file that the system maps into memory, the others open it too, and the system shares the pages; else the first worker
hands the model over through a file in memory (`headatlas.lab.loading.handing_over`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headatlas.errors import HeadatlasError
from headatlas.progress import RunProgress
from headatlas.protocol.model_options import ModelOptions

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.lab import OpenModel

LEAST = 32 * 2**20  # bytes of weights below which every process has a copy of its own
_EVERY = 0.25  # seconds between two reports of a worker on the same step

Reports = SimpleQueue[Any]


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
def pool(jobs: int, model: str, options: ModelOptions, report: RunProgress) -> Iterator[Pool]:
    """A pool of processes for work on one model; work that is submitted finds the model by `opened`.

    Raises:
        HeadatlasError: where a process dies.
    """
    context = multiprocessing.get_context("spawn")
    reports: Reports = context.SimpleQueue()
    reader = threading.Thread(target=_read, args=(reports, report), daemon=True)
    reader.start()
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(reports,))
    try:
        with place_to_hand_over() as place:
            for _ in range(jobs):
                executor.submit(_ready)  # one each, so that all of them start
            yield Pool(executor, ModelRequest(model, options, place, LEAST))
    except BrokenProcessPool:
        raise HeadatlasError("a process died, perhaps for lack of memory; run again with --jobs 1") from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()  # else they would finish what they are at, and this process would wait for them
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(OSError, ValueError):
            reports.put(None)
        reader.join(5.0)


@dataclass(frozen=True)
class Pool:
    """Processes that wait for work, and the model that they share."""

    executor: ProcessPoolExecutor
    request: ModelRequest


def _ready() -> None:
    """Do nothing; a process that takes this has started."""


@contextmanager
def place_to_hand_over() -> Iterator[str]:
    """A file through which a model can be handed over: in memory where the system has such files, else on disk."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            number = os.memfd_create("headatlas")
            path = f"/proc/{os.getpid()}/fd/{number}"
            if Path(path).exists():
                try:
                    yield path
                finally:
                    os.close(number)
                return
            os.close(number)
    handle, path = tempfile.mkstemp(prefix="headatlas-", suffix=".model")
    os.close(handle)
    try:
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _read(reports: Reports, report: RunProgress) -> None:
    """Pass on what workers report, until None comes."""
    with contextlib.suppress(OSError, EOFError):
        while (found := reports.get()) is not None:
            report.step(*found)


# --- in a worker ------------------------------------------------------------------------------------------------

_at_work: tuple[Catalog, OpenModel] | None = None
_sending: Reports | None = None
_threads = 1  # that torch would use by itself


def _start(reports: Reports) -> None:
    """Make a process ready, torch and all."""
    global _sending, _threads
    start_as_worker()
    import torch

    import headatlas.lab  # noqa: F401 - takes seconds, in which the first worker opens the model

    _sending, _threads = reports, torch.get_num_threads()
    torch.set_num_threads(1)


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


def use_all_threads() -> None:
    """Let torch use as many threads as it would by itself: for a worker that is the only one with work."""
    import torch

    torch.set_num_threads(_threads)


class WorkerProgress(RunProgress):
    """Sends progress on: each step when it begins and ends, and a few times a second at most.

    Args:
        send: takes what `RunProgress.step` takes, as a tuple.
        clock: seconds.
    """

    def __init__(
        self, send: Callable[[tuple[str, str, int, int]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send, self._clock = send, clock
        self._last: tuple[str, str] = ("", "")
        self._sent = 0.0

    def step(self, id: str, what: str, done: int, total: int) -> None:
        now, fresh = self._clock(), (id, what) != self._last
        if fresh or done == total or now - self._sent >= _EVERY:
            self._last, self._sent = (id, what), now
            self._send((id, what, done, total))


def worker_progress() -> RunProgress:
    """In a worker: progress that goes to the process that started it."""
    return WorkerProgress(_send)


def _send(report: tuple[str, str, int, int]) -> None:
    with contextlib.suppress(OSError, ValueError):  # the process that started this one has ended
        if _sending is not None:
            _sending.put(report)


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
