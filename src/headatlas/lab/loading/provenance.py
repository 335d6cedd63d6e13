"""A record of exactly what was opened."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from headatlas.evidence.identity import Source

_ROW = 2**15  # bytes


@dataclass(frozen=True)
class Opened:
    """What was opened, so that it can be opened again or told apart.

    Attributes:
        source: where it came from.
        files: sha256 of each file that was there to be read, by name; empty for a model that was already loaded.
        weights: sha256 of the weight files in order of their names, of these together with the files of the adapter
            where one was merged, or, for a model that was already loaded, of the weights themselves.
        pickle: the weights were unpickled, on request.
        remote_code: the repository's own code was allowed to run, on request.
        adapter: the adapter that was merged into the weights: how it was asked for, its kind, and what it says it was
            trained on. Its files are among `files`, under "adapter/".
        left_out: names of the tensors and modules in the weight files that the model does not use, by the reason.
        trace: of the weights in memory when they were opened, by which a later change of them is noticed.
    """

    source: Source
    files: dict[str, str]
    weights: str
    pickle: bool = False
    remote_code: bool = False
    adapter: str | None = None
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trace: str | None = None


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
    """The sha256 of every parameter and buffer: name, dtype, shape and bytes, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in _numbers(model):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def trace_of(model: nn.Module) -> str:
    """A hash that changes with the weights as `of_weights` does, in a fifth of its time.

    The bits are laid out in rows and added up as whole numbers along each row and each column; the sums are hashed.
    """
    digest = hashlib.sha256()
    for name, tensor in _numbers(model):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        whole = len(data) // _ROW * _ROW
        digest.update(data[whole:].data)
        words = data[:whole].view(np.uint64).reshape(-1, _ROW // 8)
        for axis in (0, 1):
            digest.update(np.add.reduce(words, axis=axis).data)
    return digest.hexdigest()


def _numbers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer by name, tied ones under each name; not what a forward pass itself rewrites."""
    own = {name for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    rewritten = set(_rewritten(model))
    buffers = {name: buffer for name, buffer in model.named_buffers(remove_duplicate=False) if name not in rewritten}
    state = {name: tensor for name, tensor in model.state_dict().items() if name in own and name not in rewritten}
    yield from sorted((state | buffers).items())


def _rewritten(model: nn.Module) -> Iterator[str]:
    """Frequencies of positions that transformers sets anew by the length of each prompt."""
    for path, module in model.named_modules():
        kinds = getattr(module, "rope_type", None)
        kinds = set(kinds.values()) if isinstance(kinds, dict) else {kinds}
        if any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in kinds):
            for name, _ in module.named_buffers(recurse=False):
                if name.endswith("inv_freq") and not name.endswith("original_inv_freq"):
                    yield f"{path}.{name}" if path else name
