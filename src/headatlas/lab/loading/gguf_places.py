"""Finds the GGUF file that is meant: a path, the only one in a folder or hub repository, or one that is named there."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from headatlas.errors import HeadatlasError
from headatlas.evidence.identity import is_gguf

_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_LATER_PART = re.compile(r"-(?!0*1-)\d+-of-\d+\.gguf$", re.IGNORECASE)
_SHOWN = 20  # names in a refusal


def is_named(name: str) -> bool:
    """Whether a name is a GGUF file here, or one of a repository of the hub: owner/name/file.gguf."""
    if not is_gguf(name):
        return False
    if os.path.lexists(name):
        return os.path.isfile(name)  # noqa: PTH113 - Path.is_file raises on some names
    a_path = name.startswith((".", "/", "~")) or "\\" in name or os.path.isdir(name.split("/", 1)[0])  # noqa: PTH112
    return name.count("/") > 1 and not a_path


def inside(name: str, folder: Path, pickle: bool) -> Path | None:
    """The GGUF file of a folder without other weights that can be read; None if it has none.

    Raises:
        HeadatlasError: if it has several.
    """
    try:
        if _has_weights(folder, pickle):
            return None
        files = [path.name for path in folder.iterdir() if is_gguf(path.name) and path.is_file()]
    except OSError:
        return None  # `require_model` says why
    return folder / _only(name, files) if files else None


def on_hub(name: str, folder: Path, commit: str, pickle: bool) -> str | None:
    """The GGUF file of a hub repository without other weights; None if it has none.

    Args:
        name: the hub id.
        folder: what was downloaded of it.
        commit: what to look at.
        pickle: whether pickled weights may be read.

    Raises:
        HeadatlasError: if it has several.
    """
    if _has_weights(folder, pickle):
        return None
    files = _listed(name, folder, commit)
    return _only(name, files) if files else None


def offered(name: str, folder: Path, commit: str) -> str:
    """What a hub repository has instead of a file that is not there."""
    files = _listed(name, folder, commit)
    return f"it has {_names(name, files)}" if files else "nor any other GGUF file"


def _has_weights(folder: Path, pickle: bool) -> bool:
    whole = any(not path.name.startswith("adapter_model") for path in folder.glob("*.safetensors*"))
    return whole or (pickle and any(folder.glob("pytorch_model*.bin")))


def _listed(name: str, folder: Path, commit: str) -> list[str]:
    """The GGUF files of a hub repository; without network, those that were downloaded before."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(name, revision=commit)
    except Exception:  # the hub client raises its transport's own errors
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [file for file in files if is_gguf(file)]


def _only(name: str, files: Sequence[str]) -> str:
    """The only language model among GGUF files; of one in several parts, the first part."""
    models = [file for file in files if not _NO_MODEL.search(Path(file).name)] or list(files)
    first = [file for file in models if not _LATER_PART.search(file)] or models
    if len(first) > 1:
        raise HeadatlasError(f"{name} holds {len(first)} GGUF files; name one of them: {_names(name, first)}")
    return first[0]


def _names(name: str, files: Sequence[str]) -> str:
    shown = [f"{name.rstrip('/')}/{file}" for file in sorted(files)[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
