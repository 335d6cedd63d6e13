"""Finds the folder of a model or an adapter, locally or on the hub; errors say what the folder lacks."""

import difflib
import glob
import json
import os
from pathlib import Path
from typing import Any

from headatlas import specimens
from headatlas.errors import HeadatlasError
from headatlas.evidence.identity import is_gguf
from headatlas.fetching import known
from headatlas.lab.loading import gguf, gguf_places
from headatlas.lab.loading.foreign_formats import other_weights
from headatlas.progress import Progress, no_progress
from headatlas.quiet import quiet

_DOWNLOADED = ("*.json", "model*.safetensors", "*.model", "*.txt", "*.jinja")
_PICKLED = "pytorch_model*.bin"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def find_folder(
    name: str, revision: str | None, pickle: bool, code: bool, progress: Progress = no_progress
) -> tuple[Path, str | None]:
    """Find the local folder that holds a model, and the commit if it came from the hub.

    A GGUF file is dequantised, and the folder is that of its conversion.

    Raises:
        HeadatlasError: if there is none; says what was found instead.
    """
    if name == specimens.SPECIMEN or name in specimens.names():
        _require_no_revision(name, revision, "ships with headatlas")
        return specimens.folder(name), None
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises on some names
        _require_no_revision(name, revision, "is a folder")
        if file := gguf_places.inside(name, Path(name), pickle):
            return gguf.converted(file, progress), None
        require_model(name, Path(name))
        return Path(name), None
    if gguf_places.is_named(name):
        return _named_file(name, revision, progress)
    path_like = os.path.lexists(name) or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if path_like or is_gguf(name):
        raise HeadatlasError(_no_folder(name))
    try:
        folder, commit = download(name, revision, [*_DOWNLOADED, *[_PICKLED] * pickle, *["*.py"] * code])
    except HeadatlasError as error:
        raise HeadatlasError(f"{error}{known.suggestion(name)}") from None
    if of_hub := gguf_places.on_hub(name, folder, commit, pickle):
        return _downloaded_file(name, of_hub, commit, progress)
    require_model(name, folder)
    return folder, commit


def _named_file(name: str, revision: str | None, progress: Progress) -> tuple[Path, str | None]:
    """The converted folder of a GGUF file that is named: a path, or owner/name/file.gguf on the hub."""
    if os.path.isfile(name):  # noqa: PTH113
        _require_no_revision(name, revision, "is a file")
        return gguf.converted(Path(name), progress), None
    owner, repository, file = name.split("/", 2)
    return _downloaded_file(f"{owner}/{repository}", file, revision, progress)


def _downloaded_file(repository: str, file: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    progress(f"downloading {file}", 0, 0)
    folder, commit = download(repository, revision, [glob.escape(file)])
    if not (folder / file).is_file():
        raise HeadatlasError(f"{repository} has no file {file}; {gguf_places.offered(repository, folder, commit)}")
    return gguf.converted(folder / file, progress), commit


def _require_no_revision(name: str, revision: str | None, what: str) -> None:
    if revision is not None:
        raise HeadatlasError(f"{name} {what} and has no revision {revision!r}; only models on the hub have revisions")


def expanded(name: str) -> str:
    """Replace a leading ~ by the home folder, if the result is a folder or a file."""
    path = os.path.expanduser(name)  # noqa: PTH111 - Path.expanduser may raise
    return path if name.startswith("~") and os.path.exists(path) else name  # noqa: PTH110


def find_adapter(name: str, revision: str | None = None) -> Path:
    """Find the folder of an adapter: a local folder, or a hub id.

    Raises:
        HeadatlasError: if there is none.
    """
    path = Path(expanded(name))
    if os.path.isdir(path):  # noqa: PTH112
        folder = path
    elif os.path.lexists(path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise HeadatlasError(
            f"the adapter {name} is not a folder{_nearest(path)}; give the folder with {ADAPTER_CONFIG}"
        )
    else:
        folder, _ = download(name, revision, [ADAPTER_CONFIG, *ADAPTER_WEIGHTS])
    if not (folder / ADAPTER_CONFIG).is_file():
        raise HeadatlasError(f"{name} has no {ADAPTER_CONFIG}, so it is no adapter; give the folder that peft saved")
    return folder


def _no_folder(name: str) -> str:
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    if is_gguf(name) and not os.path.lexists(path):
        return f"there is no file {name}{_nearest(path, files=True)}; give a GGUF file, or a folder that holds one"
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        return f"{name} is a link to {path.readlink()}, which is not there; give the folder itself"
    if os.path.isfile(path):  # noqa: PTH113
        if (path.parent / "config.json").is_file():
            return f"{name} is a file of a model; give its folder: {path.parent}"
        return f"{name} is a file; give a folder in Hugging Face format, with config.json and model.safetensors"
    leads = f" ({path})" if name.startswith("~") else ""
    return f"{name}{leads} is not a folder{_nearest(path)}; give a model folder, a hub id, or the word specimen"


def _nearest(path: Path, files: bool = False) -> str:
    """', did you mean …?' for a folder (or file) of similar name where the path stops existing; else ''."""
    try:
        parent = next((each for each in path.parents if each.is_dir()), None)
        if parent is None:
            return ""
        wanted = path.relative_to(parent).parts[0]
        names = [each.name for each in parent.iterdir() if files or each.is_dir()]
    except (OSError, ValueError):
        return " that can be read"
    close = difflib.get_close_matches(wanted, names, n=1)
    return f"; did you mean {parent / close[0]}?" if close else ""


def require_model(name: str, folder: Path) -> None:
    """Check that a folder is readable and contains config.json.

    Raises:
        HeadatlasError: says what the folder contains instead.
    """
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        raise HeadatlasError(f"{name} cannot be read ({error.strerror}); check its permissions") from None
    if "config.json" not in names:
        raise HeadatlasError(_without_config(name, folder, names))


def _without_config(name: str, folder: Path, names: list[str]) -> str:
    if ADAPTER_CONFIG in names:
        base = adapter_says(folder).get("base_model_name_or_path")
        known = base if isinstance(base, str) and base else None
        of = f" of {known}" if known else ", and does not say of which model"
        return (
            f"{name} is an adapter{of}, without the model itself; open the model and give the adapter beside it: "
            f"--model {known or 'MODEL'} --adapter {name} "
            f"(in Python: open_model({known or 'MODEL'!r}, adapter={name!r}))"
        )
    if said := other_weights(folder):
        return f"{name} has no config.json, only {said}"
    inside = [each for each in names if (folder / each / "config.json").is_file()]
    if not inside and (folder / "snapshots").is_dir():
        inside = [f"snapshots/{each.name}" for each in sorted((folder / "snapshots").iterdir()) if each.is_dir()]
    if inside:
        more = f" (and {len(inside) - 1} more)" if len(inside) > 1 else ""
        given = f"{folder / inside[-1]}{more}"
        return f"{name} is a folder without config.json, and holds model folders; give one of them: {given}"
    if not names:
        return f"{name} is an empty folder, without config.json; give one in Hugging Face format"
    return f"{name} is a folder without config.json, so no model; give a Hugging Face folder"


def adapter_says(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter; empty if it cannot be read."""
    try:
        found = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def download(name: str, revision: str | None, patterns: list[str]) -> tuple[Path, str]:
    """Download the files of a hub repository that match some patterns; returns the folder and the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        with quiet():
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError:
        raise HeadatlasError(f"{name!r} is neither a folder nor a hub id; write owner/model") from None
    except GatedRepoError:
        raise HeadatlasError(f"{name} is gated; accept its licence on the hub, then run `hf auth login`") from None
    except RevisionNotFoundError:
        raise HeadatlasError(f"{name} has no revision {revision!r}; give a commit, a tag or a branch") from None
    except RepositoryNotFoundError:
        raise HeadatlasError(
            f"the hub has no model {name!r} you may read; check the spelling, or `hf auth login`"
        ) from None
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeadatlasError(
            f"{name} could not be downloaded ({reason}); check the network and the disk, then run again: "
            "what has arrived is kept"
        ) from None
    except Exception as error:  # the hub client raises its transport's own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HeadatlasError(f"{name} could not be downloaded ({reason}); check the network, then run again") from None
    return folder, folder.name
