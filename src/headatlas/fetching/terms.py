"""Licences that a user must accept before weights are fetched, and the note in the cache that they did."""

import json
from datetime import UTC, datetime
from pathlib import Path

from headatlas import locations
from headatlas.catalog.schema import Model
from headatlas.errors import HeadatlasError
from headatlas.fetching import disk


def accepted(model: Model) -> bool:
    """True if the terms of a model's packages need not be accepted, or were; other terms than these do not count."""
    if model.packages is None or not model.packages.must_accept:
        return True
    try:
        said = json.loads(_note(model).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("terms") == model.packages.terms


def require(model: Model, accept: bool = False) -> None:
    """Check that the terms were accepted, or note that the user accepts them now.

    Raises:
        HeadatlasError: if they must be accepted first; gives their address and what to type.
    """
    if accepted(model):
        return
    assert model.packages
    if not accept:
        raise HeadatlasError(
            f"{model.id} comes under the {model.licence} ({model.packages.terms}); if you accept them, type: "
            f"headatlas fetch {model.id} --accept-terms"
        )
    note = _note(model)
    said = {"terms": model.packages.terms, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    with disk.explained(model.id, 1):
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(".part")
        part.write_text(json.dumps(said) + "\n", encoding="utf-8")
        part.replace(note)


def _note(model: Model) -> Path:
    return locations.cache() / "terms" / f"{model.id}.json"
