"""Run records: what a run measured, as JSON with a versioned schema."""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, homes
from headatlas.evidence.identity import Identity
from headatlas.notation import Head

SCHEMA_VERSION: Literal[1] = 1
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


def _is_none(value: object) -> bool:
    return value is None


class Part(BaseModel):
    """A part of a record; rejects unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Entry(Part):
    """The entry that was rerun.

    Attributes:
        script_sha256: hash of the script's code, without comments, docstrings and layout.
        stimuli_sha256: hash of the code that draws the stimuli.
        measurement: version of the code that measures (`headatlas.protocol.freshness.MEASUREMENT`); older records have
            none.
    """

    id: str
    rule_version: int
    script_sha256: str
    stimuli_sha256: str | None = None
    measurement: int | None = Field(default=None, exclude_if=_is_none)


class ModelRecord(Part):
    """The model that was measured.

    `layers` counts all layers, with or without attention; `heads`, `kv_heads` and `d_head` are the maximum over layers.
    If layers differ, `head_counts` and `kv_head_counts` have the number of each layer, 0 for a layer without attention.
    Older records have no `identity`; what else identifies their model is unknown.
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
    identity: Identity | None = Field(default=None, exclude_if=_is_none)
    head_counts: list[int] | None = Field(default=None, exclude_if=_is_none)
    kv_head_counts: list[int] | None = Field(default=None, exclude_if=_is_none)

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


class Stimuli(Part):
    """What the model read; `sha256` is over every token of every prompt."""

    sha256: str
    families: list[str]
    bos: str


class Environment(Part):
    """The software, device and seed of a run."""

    headatlas: str
    python: str
    torch: str
    transformers: str
    numpy: str
    device: str
    dtype: str
    attention: str
    threads: int
    seed: int
    started: str
    seconds: Number
    peak_memory_mb: Number


class Behaviour(Part):
    """Can the model do the task? `passed` if `low` exceeds chance and the rule's minimum."""

    metric: str
    unit: str
    value: Number
    low: Number
    high: Number
    chance: Number
    minimum: Number
    n: int
    passed: bool


class Detection(Part):
    """A score per head. The `find` stimuli select heads; all other numbers are from the held-out `test` stimuli.

    `selected` are the heads found: selected on `find`, and above the threshold and the null on `test` too.
    `did_not_hold` are the heads that were selected and failed on `test`. `control`, `find_control` are the null of the
    score.
    """

    metric: str
    threshold: Number
    fdr: Number
    null: str
    n_find: int
    n_test: int
    find: Grid
    find_control: Grid
    q: Grid
    score: Grid
    low: Grid
    high: Grid
    control: Grid
    sink_normalised: Grid | None
    selected: list[str]
    did_not_hold: list[str] = []

    @property
    def best(self) -> float:
        """The largest score on the selecting stimuli."""
        return max(score for row in self.find for score in row)

    @property
    def undecided(self) -> bool:
        """True if a head reaches the threshold but not significantly: more stimuli are needed."""
        pairs = zip(self.find, self.q, strict=True)
        return any(
            score >= self.threshold and q > self.fdr
            for scores, qs in pairs
            for score, q in zip(scores, qs, strict=True)
        )

    @property
    def unsettled(self) -> bool:
        """True if the interval of a head that failed reaches above the threshold and the null."""
        places = [Head.parse(head) for head in self.did_not_hold]
        return any(
            self.high[layer][head] >= self.threshold and self.high[layer][head] > self.control[layer][head]
            for layer, head in places
        )


class HeadEffect(Part):
    """The effect of an intervention on one head. Backup heads can hide this effect."""

    head: str
    effect: Number


class Cause(Part):
    """The effect of ablating all heads found on the behaviour, compared with matched random sets."""

    intervention: str
    direction: Literal["decrease", "increase"]
    n: int
    effect: Number
    low: Number
    high: Number
    matching: Literal["layer", "size"]
    distinct_sets: int
    random_effects: list[Number]
    share_exceeded: Number
    p: Number
    alone: list[HeadEffect]
    passed: bool


class Compared(Part):
    """A finding of the literature about this very model, and our measurement."""

    finding: str
    source: str
    heads: list[str]
    reported: Number | None
    measured: Number | None
    tolerance: Number | None
    agrees: bool | None


class Literature(Part):
    """Agreement with papers; empty if papers have no finding about this model."""

    findings: list[Compared] = []
    reported_heads: list[str] = []
    shared: list[str] = []
    overlap_p: Number | None = None


class Stability(Part):
    """The verdict within each prompt family, and for each seed run."""

    families: dict[str, VerdictLabel]
    seeds: dict[str, VerdictLabel]


class Verdict(Part):
    """The label and its reasons."""

    label: VerdictLabel
    reasons: list[str]


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


class Record(Part):
    """One run of one reproduction on one model. `cause` is None if there was no causal test."""

    schema_version: Literal[1] = SCHEMA_VERSION
    entry: Entry
    model: ModelRecord
    stimuli: Stimuli | None
    environment: Environment
    behaviour: Behaviour | None
    detection: Detection | None
    cause: Cause | None
    literature: Literature
    stability: Stability
    verdict: Verdict

    @model_validator(mode="after")
    def _grids_fit(self) -> "Record":
        if found := self.detection:
            grids = (found.find, found.find_control, found.q, found.score, found.low, found.high, found.control)
            require_fit(self.model, (*grids, found.sink_normalised), (*found.selected, *found.did_not_hold))
        return self

    @property
    def selected(self) -> list[Head]:
        """The heads found: selected on some prompts, and passed on other prompts."""
        return [Head.parse(head) for head in self.detection.selected] if self.detection else []


def home_of(folder: Path, model: ModelRecord) -> Path:
    """The folder of a model's records: <folder>/<model> or <folder>/<model>-<hash> (see `headatlas.evidence.homes`)."""
    return homes.home(folder / model.id, model, models_in)


def claim(folder: Path, model: ModelRecord) -> str | None:
    """Give a model the folder <folder>/<model>; returns a line that says where another model's records went.

    Raises:
        HeadatlasError: if the folder cannot be written.
    """
    return homes.claim(folder / model.id, model, models_in)


def _model_of(path: Path) -> ModelRecord | None:
    try:
        return read(path).model
    except HeadatlasError:
        return None


def models_in(folder: Path) -> Iterator[ModelRecord]:
    """The models of the records in one folder; skips files that cannot be read."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield ModelRecord.model_validate(json.loads(path.read_bytes())["model"])
        except (OSError, ValueError, LookupError, TypeError):
            continue


def require_writable(folder: Path) -> None:
    """Check before a long run that records can be written.

    Raises:
        HeadatlasError: if the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise HeadatlasError(
            f"cannot write records to {folder} ({error.strerror}); give another folder with --out"
        ) from None


def write(record: Record, folder: Path) -> Path:
    """Write a record to its model's folder; a reader never sees a partial record.

    A record of another model moves to that model's folder; an unreadable file moves to <entry>.json.unreadable.

    Raises:
        HeadatlasError: if the disk is full or the folder cannot be written.
    """
    path = home_of(folder, record.model) / f"{record.entry.id}.json"
    if path.is_file():
        homes.make_room(path, record.model, _model_of(path))
    return files.write(path, record.model_dump_json(indent=1) + "\n")


def read(path: Path) -> Record:
    """Read a record. In older records, heads that fail on new prompts are removed from the heads found.

    Raises:
        HeadatlasError: if the file is not a record of this schema version.
    """
    from headatlas.evidence import holding  # imported here: it imports this module

    return holding.settled(files.read(Record, path, "the record", "is not a run record", "run it again"))


def named(record: Record, folder: str) -> Record:
    """The record with its folder's name as the model's name, so that models with the same name are told apart."""
    if record.model.id == folder:
        return record
    return record.model_copy(update={"model": record.model.model_copy(update={"id": folder})})


def read_all(folder: Path) -> list[Record]:
    """Every record below a folder, by model and entry."""
    return [named(read(path), path.parent.name) for path in paths_in(folder)]


def paths_in(folder: Path) -> list[Path]:
    """The paths of all records below a folder, by model and entry."""
    return sorted(folder.glob("*/*.json"))
