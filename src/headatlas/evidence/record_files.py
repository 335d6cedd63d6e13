"""Run records as files: <folder>/<model>/<entry>.json, written whole or not at all."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from headatlas.catalog.schema import VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, homes
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Record


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
    from headatlas.evidence import held_out  # imported here: it imports this module

    return held_out.without_heads_that_fail(
        files.read(Record, path, "the record", "is not a run record", "run it again")
    )


def named(record: Record, folder: str) -> Record:
    """The record with its folder's name as the model's name, so that models with the same name are told apart."""
    if record.model.id == folder:
        return record
    return record.model_copy(update={"model": record.model.model_copy(update={"id": folder})})


def with_seeds(record: Record, labels: dict[str, VerdictLabel], seconds: float) -> Record:
    """The record with the verdicts of more seeds, which took `seconds` more."""
    stability = record.stability.model_copy(update={"seeds": labels})
    environment = record.environment.model_copy(update={"seconds": record.environment.seconds + seconds})
    return record.model_copy(update={"stability": stability, "environment": environment})


def read_all(folder: Path) -> list[Record]:
    """Every record below a folder, by model and entry."""
    return [named(read(path), path.parent.name) for path in paths_in(folder)]


def paths_in(folder: Path) -> list[Path]:
    """The paths of all records below a folder, by model and entry."""
    return sorted(folder.glob("*/*.json"))
