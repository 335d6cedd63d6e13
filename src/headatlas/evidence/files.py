"""Files that a reader never sees half of."""

import os
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from headatlas.errors import HeadatlasError

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
        raise HeadatlasError(f"cannot read {called} {path} ({error.strerror})") from None
    except ValidationError as error:
        version, reason = kind.model_fields["schema_version"].default, error.errors()[0]["msg"]
        raise HeadatlasError(f"{path} {none} of schema {version} ({reason}); {again}") from None


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
