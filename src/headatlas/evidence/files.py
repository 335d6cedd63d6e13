"""Reads and writes files; a reader never sees a partial file."""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from headatlas.errors import HeadatlasError

_UNFINISHED = ".headatlas-unfinished"
_OLD = 3600.0  # seconds

Kept = TypeVar("Kept", bound=BaseModel)


def read(kind: type[Kept], path: Path, called: str, none: str, again: str) -> Kept:
    """Read a JSON file that headatlas wrote.

    Args:
        kind: class of the object; its default `schema_version` is the version that can be read.
        path: path of the file.
        called: name of the object in messages, such as 'the record'.
        none: message for another file, such as 'is not a run record'.
        again: what the user should do.

    Raises:
        HeadatlasError: if the file cannot be read, or has another schema version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HeadatlasError(f"cannot read {called} {path} ({error.strerror or error}); {again}") from None
    except ValidationError as error:
        version, reason = kind.model_fields["schema_version"].default, error.errors()[0]["msg"]
        raise HeadatlasError(f"{path} {none} of schema {version} ({reason}); {again}") from None


def write(path: Path, text: str, folders: bool = True) -> Path:
    """Write a file completely or not at all; create its parent folders unless `folders` is False.

    The text goes to a hidden file in the same folder. The hidden file is flushed to the disk (fsync) and renamed in one
    step; then the folder is flushed too. After a killed process, a full disk or a power failure, the file therefore has
    either its old or its new content, and a reported write is permanent. A killed process may leave a hidden file that
    nothing reads; the next write to the folder removes hidden files older than an hour.

    A path that is not a plain file, such as /dev/stdout, is written directly.

    Raises:
        HeadatlasError: if the disk is full, the folder cannot be written, or the text is not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", newline="")
            return path
        whole = path.resolve()  # keeps a symbolic link
        if folders:
            whole.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(whole.parent)
        _replace(whole, text.encode("utf-8"))
    except UnicodeEncodeError:
        raise HeadatlasError(
            f"cannot write {path} (it contains a name that is not UTF-8 text); rename that file or folder"
        ) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise HeadatlasError(f"cannot write {path} ({why}); free space or give another --out") from None
    return path


def _replace(path: Path, raw: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _bring_to_disk(path.parent)


def _bring_to_disk(folder: Path) -> None:
    """Flush a folder, so that a new name is permanent. Some systems cannot; the file itself is safe anyway."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Remove hidden files of killed writers, except recent ones that a process may still be writing."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
