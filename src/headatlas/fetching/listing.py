"""What models are known, what is here, how large, and how to get it. Asks no network."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Model
from headatlas.fetching import known, stored, terms

Source = Literal["ships", "packages", "hub"]


@dataclass(frozen=True)
class KnownModel:
    """A model whose weights can be had.

    Attributes:
        id: of the catalog.
        name: as papers or authors write it.
        source: ships with headatlas, comes in packages, or lies on the hub.
        hub: its hub id, if it comes from there.
        layers, heads: its shape; None if the catalog does not say.
        folder: of the weights; None if they are not here.
        size: bytes of that folder; None if it is not here.
        download: bytes to download; None if the catalog does not say.
        licence: as the catalog says.
        terms: address of the licence of packages.
        accepted: False if terms must still be accepted.
        gated: whether the hub asks for an account.
        command: what fetches it; None for a model that ships.
    """

    id: str
    name: str
    source: Source
    hub: str | None
    layers: int | None
    heads: int | None
    folder: str | None
    size: int | None
    download: int | None
    licence: str | None
    terms: str | None
    accepted: bool
    gated: bool
    command: str | None


def models(catalog: Catalog) -> list[KnownModel]:
    """Models that ship, then those in packages, then those on the hub; only decoders, which headatlas measures."""
    ships = [_ships(catalog, name) for name in specimens.names()]
    others = [
        each
        for id, each in sorted(catalog.models.items())
        if each.architecture == "decoder" and id not in specimens.names()
    ]
    packaged = [_packaged(each) for each in others if each.packages]
    return [*ships, *packaged, *(_on_hub(each) for each in others if each.hub and not each.packages)]


def _ships(catalog: Catalog, name: str) -> KnownModel:
    model, folder = catalog.models.get(name), specimens.folder(name)
    return KnownModel(
        id=name,
        name=model.name if model else name,
        source="ships",
        hub=None,
        layers=model.layers if model else None,
        heads=model.heads if model else None,
        folder=str(folder),
        size=stored.size(folder),
        download=None,
        licence=model.licence if model else None,
        terms=None,
        accepted=True,
        gated=False,
        command=None,
    )


def _packaged(model: Model) -> KnownModel:
    assert model.packages
    folder, accepted = stored.place(model), terms.accepted(model)
    here = stored.is_whole(folder)
    return KnownModel(
        id=model.id,
        name=known.name_when_open(model.id),
        source="packages",
        hub=None,
        layers=model.layers,
        heads=model.heads,
        folder=str(folder) if here else None,
        size=stored.size(folder) if here else None,
        download=model.packages.download,
        licence=model.licence,
        terms=model.packages.terms,
        accepted=accepted,
        gated=False,
        command=f"headatlas fetch {model.id}{'' if accepted else ' --accept-terms'}",
    )


def _on_hub(model: Model) -> KnownModel:
    id, revision = known.hub_id(model.id)
    folder = next((each for each in _snapshots(id, revision) if _has_weights(each)), None)
    return KnownModel(
        id=model.id,
        name=model.name,
        source="hub",
        hub=id,
        layers=model.layers,
        heads=model.heads,
        folder=str(folder) if folder else None,
        size=stored.size(folder) if folder else None,
        download=None,
        licence=model.licence,
        terms=None,
        accepted=True,
        gated=model.access == "gated",
        command=f"headatlas fetch {model.id}",
    )


def _snapshots(id: str, revision: str | None) -> Iterator[Path]:
    """The folders of the hub's cache that may hold a revision of a model: that revision, or what `main` means here."""
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{id.replace('/', '--')}"
    if revision is None:
        try:
            revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        except OSError:
            return
    yield repository / "snapshots" / revision


def _has_weights(folder: Path) -> bool:
    """True if a folder holds config.json and all safetensors files."""
    if not (folder / "config.json").is_file():
        return False
    if (folder / "model.safetensors").is_file():
        return True
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return all((folder / name).is_file() for name in set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
