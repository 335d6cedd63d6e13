"""Files that a reader never sees half of."""

import os
import tempfile
from pathlib import Path

from headatlas.errors import HeadatlasError


def write(path: Path, text: str) -> Path:
    """Write a file whole or not at all, with the folders above it.

    Raises:
        HeadatlasError: where the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HeadatlasError(f"cannot write {path} ({error.strerror}); free space or give another --out") from None
    return path
