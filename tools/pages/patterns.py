"""Recorded attention patterns: of every head of a model, on a few short texts, in 8 bits a weight."""

import base64
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from headatlas import locations
from headatlas.evidence import files
from headatlas.evidence.record_parts import ModelRecord, RecordPart

SCHEMA_VERSION: Literal[1] = 1
FOLDER = locations.reproductions() / "patterns"


class RecordedText(RecordPart):
    """One text, and the patterns of every head on it.

    Attributes:
        pieces: the text of each token; a token that is only a part of a character is shown as its bytes.
        weights: base64 of deflated bytes, a byte per weight: round(255 times the weight), [head (query key)], heads
            layer by layer, and of each pattern the lower triangle, row by row.
    """

    id: str
    name: str
    text: str
    tokens: list[int]
    pieces: list[str]
    weights: str

    @property
    def bytes(self) -> bytes:
        """The weights, a byte each."""
        return zlib.decompress(base64.b64decode(self.weights))


class RecordedPatterns(RecordPart):
    """The patterns of one model; `transformers` and `torch` are the versions that ran it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    torch: str
    transformers: str
    dtype: str
    texts: list[RecordedText]

    @model_validator(mode="after")
    def _sizes_fit(self) -> "RecordedPatterns":
        for each in self.texts:
            size = triangle(len(each.tokens)) * len(self.model.every_head)
            if len(each.pieces) != len(each.tokens) or len(each.bytes) != size:
                raise ValueError(f"the patterns of {each.id} do not fit its tokens and the heads of {self.model.name}")
        return self


def triangle(length: int) -> int:
    """The number of pairs of a query and a key that is not after it."""
    return length * (length + 1) // 2


def packed(patterns: NDArray[np.float32]) -> str:
    """Patterns [head query key] as `RecordedText.weights`."""
    queries, keys = np.tril_indices(patterns.shape[-1])
    made = np.rint(patterns[:, queries, keys] * 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(made.tobytes(), 9)).decode("ascii")


def unpacked(text: RecordedText) -> NDArray[np.float32]:
    """The patterns of a text: [head query key]."""
    length = len(text.tokens)
    queries, keys = np.tril_indices(length)
    flat = np.frombuffer(text.bytes, np.uint8).reshape(-1, triangle(length))
    made = np.zeros((len(flat), length, length), np.float32)
    made[:, queries, keys] = flat / 255
    return made


def recorded_patterns(folder: Path = FOLDER) -> Iterable[RecordedPatterns]:
    """Every file of recorded patterns, by model.

    Raises:
        HeadatlasError: where a file is damaged.
    """
    for path in sorted(folder.glob("*.json")):
        yield files.read(RecordedPatterns, path, "the patterns", "holds no recorded patterns", "record them again")
