"""Finds and reads censuses: files, folders, and those that ship with the project."""

from pathlib import Path

from headatlas import paths
from headatlas.census.schema import Census
from headatlas.commands import DEFAULT_CENSUS
from headatlas.evidence import files


def read(path: Path) -> Census:
    """Read a census.

    Raises:
        HeadatlasError: where it is none of this schema version.
    """
    return files.read(Census, path, "the census", "is not a census", "take it again")


def find(name: str, out: Path = DEFAULT_CENSUS) -> Path | None:
    """Where the census of a model lies: a file or folder of that name, one taken here before, or one that ships."""
    here = Path(name)
    id = here.name if here.is_dir() else name.replace("/", "--")
    places = [here] if here.suffix == ".json" else [here / "census.json"]
    places += [out / id / "census.json", paths.censuses() / f"{id}.json"]
    return next((place for place in places if place.is_file()), None)


def recorded(folder: Path | None = None) -> list[Census]:
    """The censuses that ship with the project, by model."""
    return [read(path) for path in sorted((folder or paths.censuses()).glob("*.json"))]
