"""Finds and reads censuses: files, folders, and those that ship with the project."""

import glob
import re
from pathlib import Path

from headatlas import paths
from headatlas.census.schema import Census
from headatlas.commands import DEFAULT_CENSUS
from headatlas.evidence import files, homes


def read(path: Path) -> Census:
    """Read a census.

    Raises:
        HeadatlasError: where it is none of this schema version.
    """
    return files.read(Census, path, "the census", "is not a census", "take it again")


def find(name: str, out: Path = DEFAULT_CENSUS) -> Path | None:
    """Where the census of a model lies: a file or folder of that name, one taken here before, or one that ships."""
    return next((given for given in (as_given(name), *by_name(name, out)) if given), None)


def as_given(name: str) -> Path | None:
    """The census that a name itself points at: a file, or the folder of a census that is no model."""
    here = Path(name)
    place = here if here.suffix == ".json" else here / "census.json"
    return place if place.is_file() and not (here / "config.json").is_file() else None


def by_name(name: str, out: Path = DEFAULT_CENSUS) -> list[Path]:
    """Where censuses of models of a name lie: taken here, that of the model opened last first, or shipped."""
    here = Path(name)
    id = re.sub(r"[^\w.-]+", "-", homes.folder_name(name) if here.is_dir() else name.replace("/", "--"))
    beside = sorted(out.glob(f"{glob.escape(id)}-*/census.json"))
    places = [out / id / "census.json", *beside, paths.censuses() / f"{id}.json"]
    return [place for place in places if place.is_file()]


def recorded(folder: Path | None = None) -> list[Census]:
    """The censuses that ship with the project, by model."""
    return [read(path) for path in sorted((folder or paths.censuses()).glob("*.json"))]
