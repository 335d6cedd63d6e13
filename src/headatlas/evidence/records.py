"""Run records: what a run measured, as JSON with a versioned schema, written whole or not at all."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PlainSerializer

from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import files
from headatlas.notation import Head

SCHEMA_VERSION: Literal[1] = 1

# Six significant digits: far below any interval, and the same text on every run.
Number = Annotated[float, PlainSerializer(lambda value: float(f"{value:.6g}"), return_type=float)]
Grid = list[list[Number]]  # [layer][head]


def grid(values: NDArray[np.float64]) -> Grid:
    """[layer head] array -> nested lists."""
    return [[float(value) for value in row] for row in values]


class Part(BaseModel):
    """Refuses unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Entry(Part):
    """What was rerun."""

    id: str
    rule_version: int
    script_sha256: str
    stimuli_sha256: str | None = None  # of the code that draws the stimuli


class ModelRecord(Part):
    """What it was run on."""

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


class Stimuli(Part):
    """What the model read; `sha256` is over every token of every prompt."""

    sha256: str
    families: list[str]
    bos: str


class Environment(Part):
    """Where and how it ran."""

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
    """Can the model do the task? `passed` when `low` exceeds chance and the rule's minimum."""

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
    """A score per head. Heads are selected on `find`; everything else is measured on the held-out `test` stimuli.

    `selected` are the heads found: those that were selected and hold on `test`, where their score reaches the threshold
    and exceeds its control. `did_not_hold` are the others that were selected, and are found nowhere.
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
        """The largest score on the stimuli that select."""
        return max(score for row in self.find for score in row)

    @property
    def undecided(self) -> bool:
        """Whether some head reaches the threshold and cannot be told from its control: more stimuli are needed."""
        pairs = zip(self.find, self.q, strict=True)
        return any(
            score >= self.threshold and q > self.fdr
            for scores, qs in pairs
            for score, q in zip(scores, qs, strict=True)
        )

    @property
    def unsettled(self) -> bool:
        """Whether a head that did not hold may yet, its interval reaching the threshold and lying above its control."""
        places = [Head.parse(head) for head in self.did_not_hold]
        return any(
            self.high[layer][head] >= self.threshold and self.high[layer][head] > self.control[layer][head]
            for layer, head in places
        )


class HeadEffect(Part):
    """Intervening on one head alone. Backup heads can hide what a single head does."""

    head: str
    effect: Number


class Cause(Part):
    """What ablating the selected heads, as a set, does to the behaviour, against matched random sets."""

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
    """One finding of the literature about this very model, beside what was measured."""

    finding: str
    source: str
    heads: list[str]
    reported: Number | None
    measured: Number | None
    tolerance: Number | None
    agrees: bool | None


class Literature(Part):
    """Agreement with papers; empty where they say nothing about this model."""

    findings: list[Compared] = []
    reported_heads: list[str] = []
    shared: list[str] = []
    overlap_p: Number | None = None


class Stability(Part):
    """The verdict within each prompt family, and for each seed run."""

    families: dict[str, VerdictLabel]
    seeds: dict[str, VerdictLabel]


class Verdict(Part):
    """The label and its reasons, in words."""

    label: VerdictLabel
    reasons: list[str]


class Record(Part):
    """One run of one reproduction on one model. `cause` is None where no heads could be intervened on."""

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

    @property
    def selected(self) -> list[Head]:
        """The heads found: selected on some prompts, and holding on others."""
        return [Head.parse(head) for head in self.detection.selected] if self.detection else []


def path_of(folder: Path, model_id: str, entry_id: str) -> Path:
    """Where a record lies: <folder>/<model>/<entry>.json."""
    return folder / model_id / f"{entry_id}.json"


def require_writable(folder: Path) -> None:
    """Find out before a long run, not after it, that records cannot be written.

    Raises:
        HeadatlasError: where the folder cannot be made or written to.
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
    """Write a record; a reader never sees half of one.

    Raises:
        HeadatlasError: where the disk is full or the folder cannot be written.
    """
    path = path_of(folder, record.model.id, record.entry.id)
    return files.write(path, record.model_dump_json(indent=1) + "\n")


def read(path: Path) -> Record:
    """Read a record; of one made before heads had to hold on new prompts, those that do not are not among the found.

    Raises:
        HeadatlasError: where it is no record of this schema version.
    """
    from headatlas.evidence import holding  # which judges again, by this module

    return holding.settled(files.read(Record, path, "the record", "is not a run record", "run it again"))


def read_all(folder: Path) -> list[Record]:
    """Every record below a folder, by model and entry."""
    return [read(path) for path in paths_in(folder)]


def paths_in(folder: Path) -> list[Path]:
    """Where the records below a folder lie, by model and entry."""
    return sorted(folder.glob("*/*.json"))
