"""Chooses the folder for the results of a model, and keeps apart models with the same name.

The model that was opened last has the plain name, such as `records/checkpoint-100`. Results of another model with the
same name are first moved to `checkpoint-100-<hash>`, with the hash of that model. When that model is opened again, its
results get the plain name back. No model overwrites the measurements of another model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.evidence.record_parts import ModelRecord

Owners = Callable[[Path], "Iterable[ModelRecord]"]  # the models with results in a place
TOY = "toy"  # each script trains its own toy model; readers see them as one model
_SHOWN = 8  # digits of a hash: enough to tell models apart by eye


def label(model: ModelRecord) -> str:
    """A short name of the opened model: the first digits of its hash."""
    return (model.identity.sha256 if model.identity else model.sha256)[:_SHOWN]


def same(mine: ModelRecord, other: ModelRecord) -> bool:
    """True if results of `other` may be in the place of `mine`.

    Records without an identity count as mine if their weights are mine: they are stale, and a new measurement of the
    same model replaces them.
    """
    if _is_toy(mine) or _is_toy(other):
        return _is_toy(mine) and _is_toy(other)
    return mine.differs(other) in ([], ["identity"])


def _is_toy(model: ModelRecord) -> bool:
    return model.id == TOY == model.catalog_id


def beside(place: Path, name: str) -> Path:
    """The path beside a folder or JSON file, with the name appended."""
    if place.suffix == ".json":
        return place.with_name(f"{place.stem}-{name}.json")
    return place.with_name(f"{place.name}-{name}")


def home(place: Path, mine: ModelRecord, owners: Owners) -> Path:
    """The place of a model's results, now or in future; moves nothing.

    Args:
        place: the plain place, a folder or a JSON file.
        mine: the model.
        owners: function that reads which models have results in a place.
    """
    there = list(owners(place))
    other = beside(place, label(mine))
    if there:
        return place if any(same(mine, each) for each in there) else other
    return other if any(owners(other)) else place


def claim(place: Path, mine: ModelRecord, owners: Owners) -> str | None:
    """Give a model the plain place: move another model's results aside, and move the model's own results back.

    Returns:
        One line for the user that says where another model's results went; None if nothing moved.

    Raises:
        HeadatlasError: if the folder cannot be written.
    """
    own = home(place, mine, owners)
    if own == place:
        return None
    there = list(owners(place))
    try:
        said = _move_away(place, mine, there) if there else None
        if own.exists() and not place.exists():
            own.rename(place)
    except OSError as error:
        raise HeadatlasError(f"cannot write {place.parent} ({error.strerror}); give another folder") from None
    return said


def _move_away(place: Path, mine: ModelRecord, there: list[ModelRecord]) -> str:
    names = {label(each) for each in there if each.identity} or {label(each) for each in there}
    aside = free(beside(place, names.pop() if len(names) == 1 else "earlier"))
    place.rename(aside)
    parts = [part for part in mine.differs(there[0]) if part != "identity"] or ["weights"]
    return f"{place} held another model with that name (different {', '.join(parts)}); its results are now in {aside}"


def free(place: Path) -> Path:
    """The place itself, or the first free place with a number if the place is taken."""
    made, number = place, 2
    while made.exists():
        made, number = place.with_name(f"{place.name}-{number}"), number + 1
    return made


def make_room(path: Path, mine: ModelRecord, there: ModelRecord | None) -> None:
    """Move a file aside if it belongs to another model or cannot be read.

    Args:
        path: path of the file to be written.
        mine: the model of the new file.
        there: the model of the existing file; None if it cannot be read.

    Raises:
        HeadatlasError: if the existing file cannot be moved.
    """
    if there is not None and same(mine, there):
        return
    aside = path.with_name(f"{path.name}.unreadable")
    try:
        if there is not None:
            aside = beside(path.parent, label(there)) / path.name
            aside.parent.mkdir(exist_ok=True)
        path.rename(free(aside))
    except OSError as error:
        raise HeadatlasError(f"cannot write {path} ({error.strerror}); give another folder") from None
