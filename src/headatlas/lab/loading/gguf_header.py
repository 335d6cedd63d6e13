"""Reads the header of an untrusted GGUF file: its keys and tensors, each checked against the size of the file.

The readers of the packages gguf and transformers believe a header: a wrong count or length makes them allocate without
bound, run for hours, or read past the end. They get a file only after it has passed these checks.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from headatlas.errors import HeadatlasError

_AGAIN = "download it again"
_STRING, _ARRAY = 8, 9
# struct's letter for each type of a scalar, by GGUF's number of the type.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Far above every published file (a vocabulary has up to 300,000 tokens); a reader's memory grows with each of them.
_MOST_KEYS, _MOST_TENSORS, _MOST_ITEMS, _LARGEST = 10_000, 100_000, 4_000_000, 2**26
_KEPT = 1000  # items of an array of numbers that are kept
_DIMENSIONS = 4
_ALIGNMENT = "general.alignment"


@dataclass(frozen=True)
class Array:
    """An array among the keys: the number of its items, and the items if they are few and numbers."""

    count: int
    items: tuple[Any, ...] | None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file.

    Attributes:
        shape: as torch has it, rows first.
        kind: ggml's number of how it is stored, such as 3 for Q4_1.
        start: first byte, from the beginning of the file.
        size: bytes.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file whose sizes fit the file."""

    name: str
    size: int
    keys: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]

    def text(self, key: str) -> str | None:
        """A key's value if it is a text."""
        value = self.keys.get(key)
        return value if isinstance(value, str) else None

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as 'llama'; empty if the file does not say."""
        return self.text("general.architecture") or ""


class _Cursor:
    """Reads forward through the header; refuses to pass the end of the file."""

    def __init__(self, name: str, data: mmap.mmap, size: int) -> None:
        self.name, self.data, self.size, self.at = name, data, size, 0
        self.items = 0  # of all arrays so far

    def wrong(self, why: str, advice: str = _AGAIN) -> HeadatlasError:
        return HeadatlasError(f"{self.name} {why}; {advice}")

    def lies(self, why: str) -> HeadatlasError:
        return self.wrong(f"has a header that lies: {why}")

    def skip(self, count: int) -> int:
        """Pass `count` bytes; returns where they began."""
        start = self.at
        if count > self.size - start:
            raise self.wrong(f"is cut short, or its header lies: it asks for {count:,} bytes at byte {start:,}, and "
                             f"the file has {self.size:,}")  # fmt: skip
        self.at = start + count
        if self.at > _LARGEST:
            raise self.lies(f"it goes on after {_LARGEST:,} bytes")
        return start

    def number(self, letter: str) -> Any:
        start = self.skip(struct.calcsize(f"<{letter}"))
        return struct.unpack_from(f"<{letter}", self.data, start)[0]

    def string(self) -> str:
        length = self.number("Q")
        start = self.skip(length)
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise self.lies(f"the text at byte {start:,} is not UTF-8") from None

    def value(self) -> Any:
        kind = self.number("I")
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        raise self.lies(f"a key has type {kind}, which GGUF does not know")

    def array(self) -> Array:
        kind, count = self.number("I"), self.number("Q")
        self.items += count
        if count > self.size or self.items > _MOST_ITEMS:
            raise self.lies(f"an array of {count:,} items, in a file of {self.size:,} bytes")
        if kind in _SCALARS:
            start = self.skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
            few = count <= _KEPT
            return Array(count, struct.unpack_from(f"<{count}{_SCALARS[kind]}", self.data, start) if few else None)
        if kind != _STRING:
            raise self.lies(f"an array has items of type {kind}, which headatlas does not read")
        for _ in range(count):
            self.skip(self.number("Q"))
        return Array(count, None)


def read(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        HeadatlasError: if the file is no GGUF file, cut short, of a version or kind of tensor that the package gguf
            does not know, or if its header claims what the file does not hold.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            if not start.startswith(b"GGUF"):
                raise HeadatlasError(f"{path.name} {_no_gguf(start)}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Cursor(path.name, data, size))
    except OSError as error:
        raise HeadatlasError(f"{path.name} cannot be read ({error.strerror}); check it") from None


def _no_gguf(start: bytes) -> str:
    if not start:
        return f"is empty; {_AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights; run `git lfs pull` in its repository"
    return "is no GGUF file: it does not begin with the letters GGUF; give one, or a folder in Hugging Face format"


def _read(cursor: _Cursor) -> GgufHeader:
    cursor.skip(4)
    version = cursor.number("I")
    if version not in (2, 3):
        known = "big-endian" if version >> 24 in (2, 3) else f"of GGUF version {version}"
        raise cursor.wrong(f"is {known}", "take a little-endian file of GGUF version 2 or 3, as llama.cpp writes")
    tensors, count = cursor.number("Q"), cursor.number("Q")
    if tensors > _MOST_TENSORS or count > _MOST_KEYS:
        raise cursor.lies(f"{tensors:,} tensors and {count:,} keys, in a file of {cursor.size:,} bytes")
    keys: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.string()
        if key in keys:
            raise cursor.lies(f"the key {key[:80]} is there twice")
        keys[key] = cursor.value()
    said = [_said(cursor) for _ in range(tensors)]
    return GgufHeader(cursor.name, cursor.size, keys, _placed(cursor, said, keys.get(_ALIGNMENT, 32)))


def _said(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """What the header says of the next tensor: name, shape, kind and offset."""
    name, dimensions = cursor.string(), cursor.number("I")
    if not 1 <= dimensions <= _DIMENSIONS:
        raise cursor.lies(f"{name[:80]} has {dimensions:,} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    return name, shape[::-1], cursor.number("I"), cursor.number("Q")


def _placed(
    cursor: _Cursor, said: list[tuple[str, tuple[int, ...], int, int]], alignment: object
) -> tuple[StoredTensor, ...]:
    """The tensors with their places in the file, which must lie one after another and inside the file."""
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise cursor.lies(f"{_ALIGNMENT} is {alignment}, which is no power of two")
    begin = -(-cursor.at // alignment) * alignment
    found = {}
    for name, shape, kind, offset in said:
        if name in found:
            raise cursor.lies(f"the tensor {name[:80]} is there twice")
        if offset % alignment:
            raise cursor.lies(f"{name[:80]} is not aligned to {alignment} bytes")
        found[name] = StoredTensor(name, shape, kind, begin + offset, _bytes(cursor, name, shape, kind))
    placed = sorted(found.values(), key=lambda tensor: (tensor.start, tensor.size))
    if not placed:
        raise cursor.wrong("holds no tensors")
    if any(one.start + one.size > two.start for one, two in pairwise(placed)):
        raise cursor.lies("its tensors overlap")
    if (end := placed[-1].start + placed[-1].size) > cursor.size:
        raise cursor.wrong(f"is cut short: it has {cursor.size:,} bytes, and its header speaks of {end:,}")
    return tuple(found.values())


def _bytes(cursor: _Cursor, name: str, shape: tuple[int, ...], kind: int) -> int:
    """The size of a tensor."""
    if kind not in GGML_QUANT_SIZES:
        raise unknown_kind(cursor.name, f"{name[:80]} is of ggml's type {kind}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if min(shape) < 1 or shape[-1] % block:
        raise cursor.lies(f"{name[:80]} is {' x '.join(map(str, shape))}, stored in blocks of {block}")
    return math.prod(shape) // block * size


def unknown_kind(name: str, what: str) -> HeadatlasError:
    """The refusal of a file with tensors stored in a way that the package gguf cannot read."""
    return HeadatlasError(
        f"{name} is quantised in a way that gguf {version('gguf')} cannot read ({what}); take a file of another "
        "quantisation, such as Q8_0 or Q4_K_M, or upgrade: pip install --upgrade gguf"
    )
