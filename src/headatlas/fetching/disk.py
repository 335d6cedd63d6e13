"""Free space, full disks, and cache folders that cannot be written, each told in one line."""

import errno
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headatlas import locations
from headatlas.errors import HeadatlasError

MB = 10**6
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAID = ("no space left", "disk quota exceeded", "file too large", "make room")


def require_free(id: str, folder: Path, needed: int) -> None:
    """Check that a disk has room.

    Args:
        id: of the model.
        folder: on that disk.
        needed: bytes.

    Raises:
        HeadatlasError: if it has not; says how many MB are needed.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HeadatlasError(no_room(id, needed, f", which has {free // MB:,}"))


def no_room(id: str, needed: int, has: str = "") -> str:
    """The message for a full disk: how many MB must be free, and where."""
    return (
        f"no room for {id}: it needs {math.ceil(needed / MB):,} MB free in {locations.cache()}{has}; free some, or "
        "set HEADATLAS_CACHE to a folder on another disk, and run again"
    )


def says_full(text: str) -> bool:
    """True if another program's message says that a disk is full."""
    return any(said in text.lower() for said in _SAID)


@contextmanager
def explained(id: str, needed: int) -> Iterator[None]:
    """Turn errors of the disk into one line.

    Args:
        id: of the model.
        needed: bytes that must be free.

    Raises:
        HeadatlasError: if the disk is full, or the cache folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise HeadatlasError(no_room(id, needed)) from None
        raise HeadatlasError(
            f"{id} cannot be kept in the cache folder {locations.cache()} ({error.strerror or error}); set "
            "HEADATLAS_CACHE to a folder that you can write"
        ) from None
    except HeadatlasError as error:
        raise HeadatlasError(no_room(id, needed)) if says_full(str(error)) else error from None
