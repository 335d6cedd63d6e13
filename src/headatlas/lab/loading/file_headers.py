"""Reads untrusted files: JSON and safetensors headers; turns other libraries' exceptions into one-line errors."""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from headatlas.errors import HeadatlasError

_POINTER = b"version https://git-lfs"
_AGAIN = "download or save it again"
# Bytes per number, by safetensors' name of the dtype.
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}


def read_json(name: str, path: Path) -> Any:
    """Read a JSON file of a model.

    Raises:
        HeadatlasError: if it cannot be read; names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadatlasError(f"{path.name} of {name} cannot be read ({error.strerror}); check it") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else first_line(error)
        empty = " (it is empty)" if path.stat().st_size == 0 else f" ({where})"
        raise HeadatlasError(f"{path.name} of {name} is not JSON{empty}; download or save it again") from None


def require_whole(name: str, path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read the header of a safetensors file: dtype and shape of each tensor, by name.

    Raises:
        HeadatlasError: if the file is truncated, or does not match its header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(len(_POINTER))
            (length,) = struct.unpack("<Q", start[:8]) if len(start) >= 8 else (0,)
            handle.seek(8)
            raw = handle.read(length) if length <= size - 8 else b""
    except OSError as error:
        raise HeadatlasError(f"{path.name} of {name} cannot be read ({error.strerror}); check it") from None

    def wrong(why: str, advice: str = _AGAIN) -> HeadatlasError:
        return HeadatlasError(f"{path.name} of {name} {why}; {advice}")

    if size == 0:
        raise wrong("is empty")
    if start.startswith(_POINTER):
        raise wrong("is a pointer of Git LFS, not the weights", "run `git lfs pull` in its repository")
    if size < 8 or length > size - 8:
        raise wrong("is cut short, or no safetensors file: its header does not fit in")
    try:
        header = json.loads(raw)
        tensors = {key: said for key, said in header.items() if key != "__metadata__"}
        found = {key: (str(said["dtype"]), tuple(int(n) for n in said["shape"])) for key, said in tensors.items()}
        spans = sorted((int(said["data_offsets"][0]), int(said["data_offsets"][1])) for said in tensors.values())
    except (ValueError, OverflowError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise wrong("has a header that is not safetensors'") from None
    if not found:
        raise wrong("holds no tensors")
    end = max(stop for _, stop in spans)
    if end > size - 8 - length:
        raise wrong(f"is cut short: it has {size:,} bytes, and its header speaks of {8 + length + end:,}")
    for key, (dtype, shape) in found.items():
        start_at, stop = (int(each) for each in tensors[key]["data_offsets"])
        if dtype in _BYTES and (min(shape, default=0) < 0 or stop - start_at != math.prod(shape) * _BYTES[dtype]):
            raise wrong(f"has a header that lies: {key} {list(shape)} of {dtype} is given {stop - start_at:,} bytes")
    if any(one[1] != two[0] for one, two in pairwise(spans)) or spans[0][0] != 0:
        raise wrong("has a header that lies: its tensors overlap or leave gaps")
    return found


@contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Turn any exception raised inside into a one-line HeadatlasError.

    Raises:
        HeadatlasError: says what failed, why, and what to do.
    """
    try:
        yield
    except HeadatlasError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        raise HeadatlasError(f"{what} ({first_line(error)}); {advice}") from None


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, cut to 160 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def listed(names: Sequence[str], most: int = 3) -> str:
    """List at most `most` names: 'a, b, c and 12 more tensors'."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more tensors" if len(names) > most else shown
