"""The JSON of measured edges between heads, with a versioned schema: one file per model."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, homes
from headatlas.evidence.record_parts import ModelRecord, Number, RecordPart
from headatlas.evidence.records import Environment

SCHEMA_VERSION: Literal[1] = 1
Via = Literal["Q", "K", "V"]


class CollaborationSettings(RecordPart):
    """Settings: maximum heads per type, prompts, random sets, other senders, and the false discovery rate."""

    seed: int
    heads: int
    prompts: int
    sets: int
    others: int
    fdr: Number


class FoundHead(RecordPart):
    """A head and its score on held-out stimuli."""

    head: str
    score: Number


class FoundType(RecordPart):
    """A type found by its reproduction (verdict reproduced or partly). `heads` are the best of `found` heads.

    `record_sha256` is the hash of the record's file.
    """

    id: str
    verdict: VerdictLabel
    found: int
    heads: list[FoundHead]
    record_sha256: str


class MeasuredComposition(RecordPart):
    """The share of the sender's output that the receiver reads, from the weights.

    `expected` is the score by chance, and p the probability of at least this score by chance. q is p corrected over all
    pairs of the edge, or of the graph. `percentile` is the percentage of the other pairs of heads of these two layers
    with a lower score.
    """

    score: Number
    expected: Number
    p: Number
    q: Number
    percentile: Number


class Patched(RecordPart):
    """How much a measure falls if the path carries its activations from the corrupted prompts.

    `others` are the effects of other senders (for a set: of random sets of as many heads). The effect exceeds
    `share_exceeded` percent of them; p is the permutation p. An edge `stands` if the interval lies above 0, the effect
    exceeds 95% of `others`, and the effect is at least 1% of the measure on the clean prompts.
    """

    effect: Number
    low: Number
    high: Number
    others: list[Number]
    share_exceeded: Number
    p: Number
    stands: bool


class Pair(RecordPart):
    """The effect of one head on another."""

    sender: str
    receiver: str
    composition: MeasuredComposition
    patched: Patched


class Measure(RecordPart):
    """The measure of path patching: the receivers' attention between their pairs, or the behaviour of their type."""

    of: Literal["attention", "behaviour"]
    what: str
    prompts_of: str
    clean: Number
    n: int


class Together(RecordPart):
    """The effect of patching all senders at once into all receivers."""

    senders: list[str]
    receivers: list[str]
    matching: Literal["layer", "size"]
    distinct_sets: int
    patched: Patched


class MeasuredEdge(RecordPart):
    """A published edge on this model: from the heads of one type to the heads of another.

    `published_via` is None if the source does not name the receiver's input; then Q, K and V are all measured. If the
    edge could not be measured, `why_not` says why, and there are no figures.
    """

    sender: str
    receiver: str
    via: Via | None
    published_via: Via | None
    why_not: str | None
    measure: Measure | None = None
    together: Together | None = None
    pairs: list[Pair] = Field(default_factory=list)


class Missing(RecordPart):
    """A type of a circuit that was not found on this model, and why."""

    type: str
    why: str


class MeasuredCircuit(RecordPart):
    """A circuit of the catalog on this model."""

    id: str
    missing: list[Missing]
    edges: list[MeasuredEdge]


class GraphEdge(RecordPart):
    """Two heads found whose composition exceeds chance."""

    sender: str
    receiver: str
    via: Via
    composition: MeasuredComposition


class Graph(RecordPart):
    """All heads found: of `tested` paths (sender, receiver, Q, K or V), those whose composition exceeds chance."""

    tested: int
    edges: list[GraphEdge]


class Collaboration(RecordPart):
    """Measured edges between the heads of one model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    settings: CollaborationSettings
    environment: Environment
    types: list[FoundType]
    circuits: list[MeasuredCircuit]
    graph: Graph


def write(record: Collaboration, folder: Path) -> Path:
    """Write <folder>/<model>.json; a file of another model with that name moves to <model>-<hash>.json.

    Raises:
        HeadatlasError: if the file cannot be written.
    """
    place = folder / f"{record.model.id}.json"
    homes.claim(place, record.model, _models_in)
    return files.write(homes.home(place, record.model, _models_in), record.model_dump_json(indent=1) + "\n")


def _models_in(path: Path) -> list[ModelRecord]:
    try:
        return [read(path).model]
    except HeadatlasError:
        return []


def read(path: Path) -> Collaboration:
    """Read a collaboration.

    Raises:
        HeadatlasError: if the file is not a collaboration of this schema version.
    """
    return files.read(Collaboration, path, "the collaboration", "is not a collaboration", "measure it again")
