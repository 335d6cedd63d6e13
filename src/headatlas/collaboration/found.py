"""Reads from a model's records which heads of each type were found, and why other types were not."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headatlas.collaboration.schema import FoundHead, FoundType
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Record
from headatlas.evidence.signs import FOUND
from headatlas.notation import Head


@dataclass(frozen=True)
class Found:
    """The heads that the records of one model found.

    Attributes:
        types: the types found, by id.
        every: all heads of each type found, best first.
        others: the types that were run and not found, with their verdict.
    """

    types: Mapping[str, FoundType]
    every: Mapping[str, tuple[Head, ...]]
    others: Mapping[str, str]

    def heads(self, type: str) -> list[Head]:
        """The best heads of a type."""
        return [Head.parse(each.head) for each in self.types[type].heads]

    def why_missing(self, type: str) -> str | None:
        """Why a type has no heads here; None if it has heads."""
        if type in self.types:
            return None
        return f"not found in this model ({self.others[type]})" if type in self.others else "never run on this model"


def found_in(folder: Path, model: ModelRecord, most: int) -> Found:
    """Read the records of a model.

    Args:
        folder: folder of records, with <model>/<entry>.json.
        model: the model that the records must belong to.
        most: maximum number of heads per type; the best are kept.

    Raises:
        HeadatlasError: if there are no records, or a record is damaged or belongs to another model.
    """
    files = sorted(record_files.home_of(folder, model).glob("*.json"))
    if not files:
        for path in sorted((folder / model.id).glob("*.json")):
            _require_of(model, path, record_files.read(path))
        raise HeadatlasError(
            f"no records of {model.id} in {folder}; `headatlas run --all --model {model.id} --out {folder}` writes them"
        )
    types: dict[str, FoundType] = {}
    every: dict[str, tuple[Head, ...]] = {}
    others: dict[str, str] = {}
    for path in files:
        record = record_files.read(path)
        _require_of(model, path, record)
        if record.verdict.label in FOUND and record.selected:
            types[record.entry.id] = _type(record, most, hashlib.sha256(path.read_bytes()).hexdigest())
            every[record.entry.id] = tuple(record.selected)
        else:
            others[record.entry.id] = record.verdict.label
    return Found(types, every, others)


def _require_of(model: ModelRecord, path: Path, record: Record) -> None:
    """Raise HeadatlasError if a record belongs to another model.

    Records without an identity are accepted if model and record both ship with headatlas; their weights suffice.
    """
    differs = record.model.differs(model)
    ships = model.identity is None or model.identity.source == "specimen"
    if differs == ["identity"] and not ships:
        raise HeadatlasError(f"{path} predates parts that identify {model.id}; run it again")
    if differs not in ([], ["identity"]):
        raise HeadatlasError(
            f"{path} belongs to another model than {model.id} (different {', '.join(differs)}); run it again"
        )


def _type(record: Record, most: int, sha256: str) -> FoundType:
    assert record.detection
    score = record.detection.score
    return FoundType(
        id=record.entry.id,
        verdict=record.verdict.label,
        found=len(record.selected),
        heads=[FoundHead(head=str(head), score=score[head.layer][head.head]) for head in record.selected[:most]],
        record_sha256=sha256,
    )
