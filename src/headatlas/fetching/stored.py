"""The finished folder of a fetched model, and the list of its files that tells whether it is whole."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from headatlas import locations
from headatlas.catalog.schema import Model
from headatlas.errors import HeadatlasError
from headatlas.fetching.disk import MB
from headatlas.progress import Progress, no_progress

LIST = "FILES"  # without an ending, so that nothing takes it for a part of the model
_BLOCK = 1 << 20


def place(model: Model) -> Path:
    """Where the weights of a model that comes in packages are kept: <cache>/models/<id>-<12 digits of its sum>."""
    assert model.packages
    return locations.cache() / "models" / f"{model.id}-{model.packages.sha256[:12]}"


def seal(folder: Path, progress: Progress = no_progress) -> None:
    """Write the list of a folder's files, with size and sha256 each."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    listed = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path, f"listing {path.name}", progress)}
        for path in files
    }
    (folder / LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """True if every listed file is there with its size. Takes no time; `damage` also checks the content."""
    listed = _listed(folder)
    try:
        return bool(listed) and all((folder / name).stat().st_size == size for name, (size, _) in listed.items())
    except OSError:
        return False


def damage(folder: Path, progress: Progress = no_progress) -> str | None:
    """The name of a listed file that is missing or has changed, or None. Reads every file."""
    for name, (size, sum) in _listed(folder).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return name
        if sha256(path, f"checking {name}", progress) != sum:
            return name
    return None


def require_unchanged(folder: Path, files: Mapping[str, str]) -> None:
    """Check the files that were read from a folder, if it is that of a model that was fetched.

    Args:
        folder: any folder.
        files: sha256 of each file that was read, by name.

    Raises:
        HeadatlasError: if one is not as it was fetched.
    """
    listed = _listed(folder)
    for name, sum in files.items():
        if name in listed and listed[name][1] != sum:
            raise HeadatlasError(
                f"{name} in {folder} is not as it was fetched; delete the folder, and `headatlas fetch` the model again"
            )


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def sha256(file: Path, what: str, progress: Progress = no_progress) -> str:
    """The sha256 of a file; progress in MB."""
    digest, done, total = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(f"{what}, MB", done // MB, total // MB)
    return digest.hexdigest()


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of each listed file; empty if the list is missing or damaged."""
    try:
        read = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return {
            name: (int(said["size"]), str(said["sha256"])) for name, said in read.items() if Path(name).name == name
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
