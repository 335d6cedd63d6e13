"""What a name means: a model whose weights come in packages, one on the hub, or none that the catalog knows."""

import difflib
import os

from headatlas import locations, specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.loading import model
from headatlas.catalog.schema import Model
from headatlas.errors import HeadatlasError
from headatlas.evidence.identity import folder_id, title


def entry(name: str) -> Model | None:
    """The catalog's model of this id; None if there is none, or the name is a file or folder here, or a specimen."""
    if os.path.lexists(name) or name in specimens.names():
        return None
    return model(name)


def packaged(name: str) -> Model | None:
    """The catalog's model of this id whose weights come in packages; None for any other name."""
    found = entry(name)
    return found if found and found.packages else None


def hub_id(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """The hub id and revision of a model of the catalog; any other name and revision as they are.

    An id of the catalog that is also a hub id, such as 'gpt2', stays as it is.
    """
    found = entry(name)
    if found is None or found.packages or not found.hub:
        return name, revision
    return name if name in found.hub else found.hub[0], revision or found.revision


def name_when_open(name: str) -> str:
    """The name that a model gets when it is opened by `name`, as far as the catalog knows it."""
    found = packaged(name)
    return title(found.packages.file, found.packages.quantisation) if found and found.packages else hub_id(name)[0]


def folder_when_open(name: str) -> str:
    """The folder of records and censuses of a model that is opened by `name`, as far as the catalog knows it."""
    found = packaged(name)
    if found and found.packages:
        return folder_id(found.packages.file, found.packages.quantisation)
    return folder_id(hub_id(name)[0])


def find(catalog: Catalog, name: str) -> Model:
    """The model to fetch, by id, name or hub id.

    Raises:
        HeadatlasError: if the catalog knows no such model, or no way to get its weights; suggests similar names.
    """
    try:
        found = catalog.model(name)
    except HeadatlasError:
        raise HeadatlasError(f"headatlas knows no model {name!r} to fetch; {_near(catalog, name)}") from None
    if not (found.packages or found.hub):
        why = "its weights are not published" if found.access in ("closed", "retrain") else "no package or hub has it"
        raise HeadatlasError(f"{found.id} cannot be fetched: {why}; `headatlas models` lists what can")
    return found


def suggestion(name: str) -> str:
    """'; did you mean …?' for a name without an owner that the hub does not have; empty if nothing is similar."""
    if "/" in name:
        return ""
    said = _similar(name, sorted(path.stem for path in (locations.catalog() / "models").glob("*.yaml")))
    return f"; {said}" if said else ""


def _similar(name: str, ids: list[str]) -> str:
    begun = [id for id in ids if name and id.startswith(name.lower())][:2]
    close = begun or difflib.get_close_matches(name.lower(), ids, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


def _near(catalog: Catalog, name: str) -> str:
    ids = [id for id, each in catalog.models.items() if each.packages or each.hub]
    if said := _similar(name, ids):
        return said
    if "/" in name:
        return "`--model` takes a hub id directly and downloads it"
    return "`headatlas models` lists those it knows"
