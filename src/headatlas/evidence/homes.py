"""Where the results of a model lie: under its name, and those of another model of that name beside them.

The plain name, such as `records/checkpoint-100`, is that of the model which was opened last. What another model of the
same name has left there is first moved to `checkpoint-100-<hash>`, named after what was opened then; when that model is
opened again, it gets its own back. Nothing that was measured is written over by another model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.evidence.records import ModelRecord

Owners = Callable[[Path], "Iterable[ModelRecord]"]  # the models whose results lie in a place
TOY = "toy"  # each method trains its own, and all of them are one model to a reader
_SHOWN = 8  # digits of a hash: enough to tell models apart by eye


def label(model: ModelRecord) -> str:
    """A short name of what was opened: the beginning of its hash."""
    return (model.identity.sha256 if model.identity else model.sha256)[:_SHOWN]


def same(mine: ModelRecord, other: ModelRecord) -> bool:
    """Whether what `other` left may lie in the place of `mine`.

    What was recorded before identities were kept counts as mine where its weights are mine: it is out of date, and the
    same model measured again takes its place.
    """
    if _is_toy(mine) or _is_toy(other):
        return _is_toy(mine) and _is_toy(other)
    return mine.differs(other) in ([], ["identity"])


def _is_toy(model: ModelRecord) -> bool:
    return model.id == TOY == model.catalog_id


def beside(place: Path, name: str) -> Path:
    """The place of a name that goes beside a folder, or beside a JSON file."""
    if place.suffix == ".json":
        return place.with_name(f"{place.stem}-{name}.json")
    return place.with_name(f"{place.name}-{name}")


def home(place: Path, mine: ModelRecord, owners: Owners) -> Path:
    """Where the results of a model lie, or would go; nothing is moved.

    Args:
        place: of its name, a folder or a JSON file.
        mine: the model.
        owners: reads whose results lie in a place.
    """
    there = list(owners(place))
    other = beside(place, label(mine))
    if there:
        return place if any(same(mine, each) for each in there) else other
    return other if any(owners(other)) else place


def claim(place: Path, mine: ModelRecord, owners: Owners) -> str | None:
    """Give a model the place of its name; what another model has there goes beside it, and its own comes back.

    Returns:
        One line to tell the user where another model of the name was moved.

    Raises:
        HeadatlasError: where the folder cannot be written.
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
    return f"{place} was of another model of that name (other {', '.join(parts)}); what it holds is now in {aside}"


def free(place: Path) -> Path:
    """The place, or where something is there already the first with a number that is free."""
    made, number = place, 2
    while made.exists():
        made, number = place.with_name(f"{place.name}-{number}"), number + 1
    return made


def make_room(path: Path, mine: ModelRecord, there: ModelRecord | None) -> None:
    """See that a file is not written over which is of another model, or cannot be read.

    Args:
        path: of the file that is about to be written.
        mine: the model that it will be of.
        there: the model of the file that is there; None where it cannot be read.

    Raises:
        HeadatlasError: where it cannot be moved.
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
