"""Parts that records and censuses share: numbers, grids [layer][head] of scores, and the model that was run."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from headatlas.evidence.identity import Identity
from headatlas.notation import Head

LARGEST = 10_000  # layers, and heads of a layer: far above any real model


# Six significant digits: finer than any interval, and the same text on every run.
Number = Annotated[float, PlainSerializer(lambda value: float(f"{value:.6g}"), return_type=float)]


Grid = list[list[Number]]  # [layer][head]: a row has as many numbers as the layer has heads


def grid(values: NDArray[np.float64]) -> Grid:
    """[layer head] array -> nested lists, without the NaN at the end of the rows of layers with fewer heads.

    Raises:
        ValueError: for other NaN, which would assign later numbers to earlier heads.
    """
    widths = [int(np.count_nonzero(~np.isnan(row))) for row in values]
    rows = [[float(value) for value in row[:width]] for row, width in zip(values, widths, strict=True)]
    for layer, row in enumerate(rows):
        if any(map(math.isnan, row)):
            raise ValueError(f"{Head(layer, int(np.argmax(np.isnan(row))))} has no number, and a later head has one")
    return rows


def padded(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Nested lists -> [layer head] array, with NaN at the end of the rows of layers with fewer heads."""
    values = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for layer, row in enumerate(rows):
        values[layer, : len(row)] = row
    return values


def _range(counts: Sequence[int]) -> str:
    """The range of the nonzero counts."""
    there = [count for count in counts if count]
    return " to ".join(map(str, dict.fromkeys((min(there), max(there)))))


def is_none(value: object) -> bool:
    return value is None


class RecordPart(BaseModel):
    """A part of a record; rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


class DequantisedPart(RecordPart):
    """The GGUF file that a model's weights were dequantised from, and how."""

    file: str
    sha256: str
    quantisation: str  # as the file's header calls it, such as 'Q4_1'
    name: str | None  # what the file's header calls the model
    dtype: str  # what the weights were dequantised to; `Environment.dtype` is what they were measured in
    transformers: str  # version that read the file
    gguf: str  # version of the package gguf that read the file


class ModelRecord(RecordPart):
    """The model that was measured.

    `layers` counts all layers, with or without attention; `heads`, `kv_heads` and `d_head` are the maximum over layers.
    If layers differ, `head_counts` and `kv_head_counts` have the number of each layer, 0 for a layer without attention.
    Older records have no `identity`; what else identifies their model is unknown. Only models from GGUF files have
    `dequantised`.
    """

    id: str
    name: str
    revision: str | None
    sha256: str
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    d_head: int
    catalog_id: str | None
    identity: Identity | None = Field(default=None, exclude_if=is_none)
    head_counts: list[int] | None = Field(default=None, exclude_if=is_none)
    kv_head_counts: list[int] | None = Field(default=None, exclude_if=is_none)
    dequantised: DequantisedPart | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _counts_fit(self) -> "ModelRecord":
        for most, counts in ((self.heads, self.head_counts), (self.kv_heads, self.kv_head_counts)):
            if not (1 <= self.layers <= LARGEST and 1 <= most <= LARGEST):
                raise ValueError(f"no model has {self.layers} layers x {most} heads")
            if counts is not None and (len(counts) != self.layers or max(counts) != most or min(counts) < 0):
                raise ValueError(f"head counts per layer do not match {self.layers} layers with at most {most} heads")
        if any(bool(heads) != bool(kv) for heads, kv in zip(self.by_layer, self.kv_by_layer, strict=True)):
            raise ValueError("some layers have heads but no key/value heads, or the reverse")
        return self

    @property
    def by_layer(self) -> list[int]:
        """The number of heads of each layer."""
        return [self.heads] * self.layers if self.head_counts is None else self.head_counts

    @property
    def kv_by_layer(self) -> list[int]:
        """The number of key/value heads of each layer."""
        return [self.kv_heads] * self.layers if self.kv_head_counts is None else self.kv_head_counts

    def heads_in(self, layer: int) -> int:
        """The number of heads of a layer; 0 for a layer without attention."""
        return self.by_layer[layer]

    def kv_heads_in(self, layer: int) -> int:
        """The number of key/value heads of a layer; 0 for a layer without attention."""
        return self.kv_by_layer[layer]

    def kv_head(self, head: Head) -> int:
        """The key/value head, within its layer, that a query head reads."""
        return head.head * self.kv_heads_in(head.layer) // self.heads_in(head.layer)

    @property
    def every_head(self) -> list[Head]:
        """Every head, layer by layer."""
        return [Head(layer, head) for layer, count in enumerate(self.by_layer) for head in range(count)]

    @property
    def size(self) -> str:
        """Layers and heads as text: '12 layers x 12 heads', '8 layers (2 with attention) x 4 heads'."""
        without = f" ({sum(map(bool, self.by_layer))} with attention)" if 0 in self.by_layer else ""
        return f"{self.layers} layers{without} x {_range(self.by_layer)} heads"

    @property
    def kv_size(self) -> str:
        """Key/value heads per layer as text: '8', or '1 to 2' if layers differ."""
        return _range(self.kv_by_layer)

    def differs(self, other: "ModelRecord") -> list[str]:
        """The parts in which two models differ; 'identity' if the identity of one model is unknown."""
        known = self.identity is not None and other.identity is not None
        found = self.identity.differs(other.identity) if self.identity and other.identity else []
        if not found and self.sha256 != other.sha256:
            found = ["weights"]
        if not found and (self.by_layer, self.kv_by_layer) != (other.by_layer, other.kv_by_layer):
            found = ["shape"]
        return found if found or known else ["identity"]


def require_fit(model: ModelRecord, grids: Iterable[Grid | None], heads: Iterable[str] = ()) -> None:
    """Check that grids have one row per layer and one number per head, and that the model has the named heads.

    Raises:
        ValueError: if they do not fit.
    """
    for each in grids:
        if each is not None and [len(row) for row in each] != model.by_layer:
            raise ValueError(f"scores do not match {model.size}")
    known = set(map(str, model.every_head))
    for name in heads:
        if name not in known:
            raise ValueError(f"{name} is not a head of a model with {model.size}")
