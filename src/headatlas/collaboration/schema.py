"""What was measured between heads, as JSON with a versioned schema: one file per model."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, homes
from headatlas.evidence.records import Environment, ModelRecord, Number, Part

SCHEMA_VERSION: Literal[1] = 1
Via = Literal["Q", "K", "V"]


class Settings(Part):
    """What was asked for: most heads of a type, prompts, random sets, other senders, and the false discovery rate."""

    seed: int
    heads: int
    prompts: int
    sets: int
    others: int
    fdr: Number


class FoundHead(Part):
    """A head and its score on held-out stimuli."""

    head: str
    score: Number


class FoundType(Part):
    """A type that its reproduction found: verdict reproduced or partly. `heads` are the best, of `found`.

    `record_sha256` is of the file of the record that says so.
    """

    id: str
    verdict: VerdictLabel
    found: int
    heads: list[FoundHead]
    record_sha256: str


class Composition(Part):
    """How much of what the sender writes lies where the receiver reads, from the weights.

    `expected` is the score by chance and p how likely chance gives as much; q is p corrected over all pairs of the
    circuit's edge, or of the graph. `percentile` is the share, 0 to 100, of the other pairs of heads of these two
    layers with a lower score.
    """

    score: Number
    expected: Number
    p: Number
    q: Number
    percentile: Number


class Patched(Part):
    """How much a measure falls where a path carries what it carries on the control prompts.

    `others` are other senders (for a set, random sets of as many heads): the effect exceeds `share_exceeded` percent of
    them, and p is that of the permutation. An edge `stands` where the interval lies above 0, the effect exceeds
    95% of them, and it is at least 1% of what is read on the clean prompts.
    """

    effect: Number
    low: Number
    high: Number
    others: list[Number]
    share_exceeded: Number
    p: Number
    stands: bool


class Pair(Part):
    """One head acting on another."""

    sender: str
    receiver: str
    composition: Composition
    patched: Patched


class Measure(Part):
    """What path patching reads: the receivers' attention between their pairs, or the behaviour of their type."""

    of: Literal["attention", "behaviour"]
    what: str
    prompts_of: str
    clean: Number
    n: int


class Together(Part):
    """All senders patched at once, into all receivers."""

    senders: list[str]
    receivers: list[str]
    matching: Literal["layer", "size"]
    distinct_sets: int
    patched: Patched


class MeasuredEdge(Part):
    """A published edge on this model: from the heads of one type to the heads of another.

    `published_via` is None where the source does not say what of the receiver; then each of Q, K and V is measured.
    Where it could not be measured `why_not` says why, and there are no figures.
    """

    sender: str
    receiver: str
    via: Via | None
    published_via: Via | None
    why_not: str | None
    measure: Measure | None = None
    together: Together | None = None
    pairs: list[Pair] = Field(default_factory=list)


class Missing(Part):
    """A type of a circuit that was not found on this model, and why."""

    type: str
    why: str


class MeasuredCircuit(Part):
    """A circuit of the catalog on this model."""

    id: str
    missing: list[Missing]
    edges: list[MeasuredEdge]


class GraphEdge(Part):
    """Two found heads whose composition exceeds chance."""

    sender: str
    receiver: str
    via: Via
    composition: Composition


class Graph(Part):
    """All found heads: of `tested` pairs (head, head, what of the receiver) those whose composition exceeds chance."""

    tested: int
    edges: list[GraphEdge]


class Collaboration(Part):
    """The heads of one model at work together."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    settings: Settings
    environment: Environment
    types: list[FoundType]
    circuits: list[MeasuredCircuit]
    graph: Graph


def write(record: Collaboration, folder: Path) -> Path:
    """Write <folder>/<model>.json, whole or not at all; that of another model of the name goes to <model>-<hash>.json.

    Raises:
        HeadatlasError: where it cannot be written.
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
    """Read one.

    Raises:
        HeadatlasError: where it is none of this schema version.
    """
    return files.read(Collaboration, path, "the collaboration", "is no collaboration", "measure it again")
