"""Dequantises a GGUF file once, and keeps it as a folder in Hugging Face format."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import transformers

from headatlas import locations
from headatlas.errors import HeadatlasError
from headatlas.fetching.waiting import alone_at
from headatlas.lab.loading import gguf_header, gguf_reading, gguf_support, gguf_tokenizer
from headatlas.lab.loading.file_headers import first_line, require_whole
from headatlas.lab.loading.gguf_record import RECORD, Dequantised, quantisation
from headatlas.progress import Progress, no_progress
from headatlas.quiet import quiet

_WEIGHTS = "model.safetensors"
_BESIDE = 20_000_000  # bytes that the files beside the weights may need
_OLD = 24 * 3600  # seconds after which an unfinished folder belongs to no process any more


def converted(file: Path, progress: Progress = no_progress) -> Path:
    """The folder in the user's cache that holds a GGUF file dequantised; converts the file on first use.

    Raises:
        HeadatlasError: if the file cannot be read or the folder cannot be written.
    """
    gguf_support.require_language_model(gguf_header.read(file))  # before the file is read whole
    progress(f"checking {file.name}", 0, 0)
    folder = locations.cache() / "gguf" / _sha256(file)
    if not _whole(folder):
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(
                    alone_at(folder, f"waiting for another process that reads {file.name}", progress)
                )
            except OSError as error:
                raise _unwritable(folder, error) from None
            stack.callback(_delete, lock)  # two conversions at once do no harm: each is renamed when it is whole
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                convert(file, folder, progress)
    return folder


def _delete(lock: Path) -> None:
    with suppress(OSError):  # Windows deletes no file that is open
        lock.unlink()


def _whole(folder: Path) -> bool:
    """Whether a conversion is there and nothing of it was lost since."""
    try:
        require_whole(folder.name, folder / _WEIGHTS)
    except HeadatlasError:
        return False
    return (folder / RECORD).is_file() and (folder / "config.json").is_file()


def convert(file: Path, folder: Path, progress: Progress = no_progress) -> None:
    """Dequantise a GGUF file once, and write it as a folder in Hugging Face format.

    The folder gets config.json, the tokenizer's files, model.safetensors in float32, and gguf.json, the `Dequantised`.
    It is written beside its place under another name, and renamed at the end: where anything fails, nothing is left.

    Raises:
        HeadatlasError: if the file cannot be read, or the folder cannot be written or is not empty.
    """
    header = gguf_header.read(file)
    gguf_support.require_language_model(header)
    with _written(folder, 4 * sum(tensor.count for tensor in header.tensors) + _BESIDE) as place:
        model, tokenizer = gguf_reading.read(file, header, progress)
        progress(f"writing {file.name} as float32", 0, 0)
        with quiet():
            model.save_pretrained(place, max_shard_size="1000TB")
            gguf_tokenizer.write(file.name, tokenizer, place)
        record = Dequantised(
            file=file.name,
            sha256=_sha256(file),
            size=header.size,
            quantisation=quantisation(header),
            name=header.text("general.name"),
            dtype="float32",
            weights=_sha256(place / _WEIGHTS),
            transformers=transformers.__version__,
            gguf=version("gguf"),
            unknown_split=gguf_support.unknown_split(header),
        )
        (place / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


@contextmanager
def _written(folder: Path, size: int) -> Iterator[Path]:
    """A folder to write `size` bytes into, which becomes `folder` at the end, or disappears on any error.

    Raises:
        HeadatlasError: if it cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise HeadatlasError(f"{folder} is not empty; give another folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        if (free := shutil.disk_usage(folder.parent).free) < size:
            raise HeadatlasError(f"{folder} needs {size:,} bytes, and its disk has {free:,}; make room")
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        yield place
        place.chmod(folder.parent.stat().st_mode & 0o777)
        if not (folder / RECORD).is_file():  # else another process was faster
            os.replace(place, folder)  # noqa: PTH105
    except HeadatlasError:
        raise
    except Exception as error:  # safetensors raises its own
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unwritable(folder: Path, error: Exception) -> HeadatlasError:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    advice = "make room on its disk" if full else "check the path, or give another cache folder with HEADATLAS_CACHE"
    return HeadatlasError(f"{folder} cannot be written ({first_line(error)}); {advice}")


def _clear(folder: Path) -> None:
    """Delete what a process that was killed left of this folder."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if time.time() - left.stat().st_mtime > _OLD:
            shutil.rmtree(left, ignore_errors=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
