"""Files that a reader never sees half of."""

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
    """Read what a program wrote as JSON.

    Args:
        kind: of object; its `schema_version` is the one that this program reads.
        path: of the file.
        called: what it is called, such as 'the record'.
        none: said of a file that is none, such as 'is not a run record'.
        again: what to do then.

    Raises:
        HeadatlasError: where it cannot be read, or is none of this schema version.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HeadatlasError(f"cannot read {called} {path} ({error.strerror or error}); {again}") from None
    except ValidationError as error:
        version, reason = kind.model_fields["schema_version"].default, error.errors()[0]["msg"]
        raise HeadatlasError(f"{path} {none} of schema {version} ({reason}); {again}") from None


def write(path: Path, text: str, folders: bool = True) -> Path:
    """Write a file whole or not at all; with the folders above it, unless `folders` is False.

    The text goes to a hidden file beside it, is brought to the disk (fsync), and takes the name in one step; then the
    folder is brought to the disk too. So a process that is killed, a full disk or a machine that loses power leaves the
    file as it was or as it should be, and what has been reported as written stays written. What a killed process leaves
    behind is a hidden file that nothing reads; the next write to the folder removes those older than an hour.

    A path that leads to no plain file, such as /dev/stdout, is written to as it is.

    Raises:
        HeadatlasError: where the disk is full, the folder cannot be written, or the text is not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", newline="")
            return path
        whole = path.resolve()  # a link stays one
        if folders:
            whole.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(whole.parent)
        _replace(whole, text.encode("utf-8"))
    except UnicodeEncodeError:
        raise HeadatlasError(
            f"cannot write {path} (a name in it is not UTF-8 text); rename what is called so"
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
    """Make a new name last. Some systems cannot do that for folders; the file itself is safe all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left, but nothing that another process may still be writing."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
