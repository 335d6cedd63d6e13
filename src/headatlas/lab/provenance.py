"""A record of exactly what was opened."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Opened:
    """What was opened, so that it can be opened again or told apart.

    Attributes:
        source: where it came from.
        files: sha256 of each file that was read, by name; empty for a model that was already loaded.
        weights: sha256 of the weight files in order of their names, of these together with the files of the adapter
            where one was merged, or, for a model that was already loaded, of the weights themselves.
        pickle: the weights were unpickled, on request.
        remote_code: the repository's own code was allowed to run, on request.
        adapter: the adapter that was merged into the weights: how it was asked for, its kind, and what it says it was
            trained on. Its files are among `files`, under "adapter/".
        left_out: names of the tensors and modules in the weight files that the model does not use, by the reason.
    """

    source: Literal["specimen", "folder", "hub", "loaded"]
    files: dict[str, str]
    weights: str
    pickle: bool = False
    remote_code: bool = False
    adapter: str | None = None
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)


def of_files(files: Iterable[Path]) -> tuple[dict[str, str], str]:
    """The sha256 of each file, by name, and of all of them one after the other, in one reading."""
    each, whole = {}, hashlib.sha256()
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
                whole.update(block)
        each[file.name] = digest.hexdigest()
    return each, whole.hexdigest()


def of_weights(model: nn.Module) -> str:
    """The sha256 of every parameter and kept buffer: name, dtype, shape and bytes, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
