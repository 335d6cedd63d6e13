"""A record of exactly what was opened."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from headatlas.evidence.identity import Source
from headatlas.lab.loading.gguf_record import Dequantised

_ROW = 2**15  # bytes


@dataclass(frozen=True)
class Opened:
    """Provenance of an open model, enough to open it again or to tell it apart.

    Attributes:
        source: where it came from.
        files: sha256 of each file that was read, by name; empty for a model that was already loaded.
        weights: sha256 of the weight files in order of their names, including a merged adapter's; of the GGUF file
            for a model dequantised from one; of the weights in memory for a model that was already loaded.
        pickle: whether the weights were unpickled, on request.
        remote_code: whether the repository's own code was allowed to run, on request.
        adapter: description of the merged adapter: its name, type, and the model it was trained on. Its files are among
            `files`, under "adapter/".
        left_out: names of the tensors and modules in the weight files that the model does not use, by reason.
        trace: `trace_of` the weights when they were opened, to detect later changes.
        gguf: the GGUF file that the weights were dequantised from, and how.
    """

    source: Source
    files: dict[str, str]
    weights: str
    pickle: bool = False
    remote_code: bool = False
    adapter: str | None = None
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trace: str | None = None
    gguf: Dequantised | None = None


def of_files(files: Iterable[Path]) -> tuple[dict[str, str], str]:
    """The sha256 of each file, by name, and of all files concatenated, in a single read."""
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
    """The sha256 of every parameter and buffer: name, dtype, shape and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in _numbers(model):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def trace_of(model: nn.Module) -> str:
    """A hash that changes with the weights, like `of_weights`, in a fifth of the time.

    The bits are arranged in rows and summed as integers along each row and each column; the sums are hashed.
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
    """Every parameter and buffer by name (tied ones under each name), without buffers that forward passes overwrite."""
    own = {name for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    rewritten = set(_rewritten(model))
    buffers = {name: buffer for name, buffer in model.named_buffers(remove_duplicate=False) if name not in rewritten}
    state = {name: tensor for name, tensor in model.state_dict().items() if name in own and name not in rewritten}
    yield from sorted((state | buffers).items())


def _rewritten(model: nn.Module) -> Iterator[str]:
    """Names of rotary-frequency buffers that transformers recomputes from the length of each prompt."""
    for path, module in model.named_modules():
        kinds = getattr(module, "rope_type", None)
        kinds = set(kinds.values()) if isinstance(kinds, dict) else {kinds}
        if any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in kinds):
            for name, _ in module.named_buffers(recurse=False):
                if name.endswith("inv_freq") and not name.endswith("original_inv_freq"):
                    yield f"{path}.{name}" if path else name
