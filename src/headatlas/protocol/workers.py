"""Processes that share work on one model and one copy of its weights; each uses one thread.

The process that starts them loads neither torch nor the model (`headatlas.protocol.shared_model`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from typing import Any

from headatlas.errors import HeadatlasError
from headatlas.progress import RunProgress
from headatlas.protocol import shared_model
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.shared_model import ModelRequest, place_to_hand_over

_EVERY = 0.25  # seconds between two reports of a worker on the same step

Reports = SimpleQueue[Any]


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
            yield Pool(executor, ModelRequest(model, options, place, shared_model.LEAST))
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


def _read(reports: Reports, report: RunProgress) -> None:
    """Pass on what workers report, until None comes."""
    with contextlib.suppress(OSError, EOFError):
        while (found := reports.get()) is not None:
            report.step(*found)


# --- in a worker ------------------------------------------------------------------------------------------------

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


def use_all_threads() -> None:
    """Let torch use as many threads as it would by itself: for a worker that is the only one with work."""
    import torch

    torch.set_num_threads(_threads)


def give_memory_back() -> None:
    """Return freed memory to the system, so that what one task needed is not kept while others run; on Linux only."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


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
