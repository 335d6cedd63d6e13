"""Lets one process at a time work on a folder of the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headatlas.progress import Progress


@contextmanager
def alone_at(folder: Path, waiting: str, progress: Progress) -> Iterator[Path]:
    """While active, no other process works on a folder; if one does, wait for it.

    Args:
        folder: need not exist; the lock lies beside it.
        waiting: what to tell `progress` while another process works on it.
        progress: told where this process has to wait.

    Yields:
        The lock, a file that stays. Who deletes it must bear that two processes work at once.

    Raises:
        OSError: if the lock cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(waiting, 0, 0)
        lock.acquire()
    try:
        yield path
    finally:
        lock.release()
