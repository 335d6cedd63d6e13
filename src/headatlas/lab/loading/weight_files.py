"""Chooses a model's weight files, and tracks which tensors are read from them."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.file_headers import explained, read_json, require_whole
from headatlas.lab.loading.folders import ADAPTER_CONFIG
from headatlas.lab.loading.foreign_formats import other_weights

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_AGAIN = "download or save it again"


@dataclass
class Tracked:
    """A tensor in a file, read on demand; `read` is set when it is."""

    name: str
    shape: tuple[int, ...]
    _get: Callable[[], Any]
    read: bool = field(default=False, compare=False)

    def __getitem__(self, at: Any) -> torch.Tensor:
        self.read = True
        tensor: torch.Tensor = self._get()[at]
        return tensor

    def get_shape(self) -> list[int]:
        """The shape; same interface as a safetensors slice."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """The dtype, such as 'F32'; same interface as a safetensors slice."""
        taken = self._get()
        return str(taken.get_dtype()) if hasattr(taken, "get_dtype") else str(taken.dtype)

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def whole(self) -> torch.Tensor:
        """The whole tensor, read without setting `read`."""
        tensor: torch.Tensor = self._get()[...]
        return tensor


def chosen(name: str, folder: Path, config: Any, allow_pickle: bool) -> tuple[list[Path], list[Path]]:
    """Choose the weight files, in order of their names; also returns other files that hold weights of this model.

    Raises:
        HeadatlasError: if there are none that may be read, or some are missing.
    """
    named = getattr(config, "transformers_weights", None)
    if isinstance(named, str):
        if Path(named).name != named or not (folder / named).is_file():
            raise HeadatlasError(
                f"config.json of {name} names {named} as its weights, which is not in the folder; put it there"
            )
        return (_shards(name, folder, named) if named.endswith(".json") else [folder / named]), []
    others = sorted(file for file in folder.glob("model-*.safetensors") if _SHARD.fullmatch(file.name))
    if _is_file(name, folder / _ONE):
        return [folder / _ONE], others
    if _is_file(name, folder / _INDEX):
        files = _shards(name, folder, _INDEX)
        return files, [file for file in others if file not in files]
    if others:
        raise HeadatlasError(
            f"{name} has {others[0].name} but no {_INDEX}, which says what is where; download the index too"
        )
    pickled = [folder / _BIN] if _is_file(name, folder / _BIN) else []
    if not pickled and _is_file(name, folder / _BIN_INDEX):
        pickled = _shards(name, folder, _BIN_INDEX) if allow_pickle else [folder / _BIN_INDEX]
    if pickled and allow_pickle:
        return pickled, []
    raise HeadatlasError(_none(name, folder, bool(pickled)))


def _none(name: str, folder: Path, pickled: bool) -> str:
    if pickled:
        return f"{name} has no model*.safetensors; allow_pickle=True (--allow-pickle) if you trust its author"
    if (folder / ADAPTER_CONFIG).is_file():
        return (
            f"{name} has no model*.safetensors, only an adapter; open the model that it was trained on, and give the "
            f"adapter beside it: --adapter {name}"
        )
    if said := other_weights(folder):
        return f"{name} has no model*.safetensors, but {said}"
    return f"{name} has no model*.safetensors; download them, or save the model with save_pretrained"


def _is_file(name: str, path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise HeadatlasError(f"{path.name} of {name} is a link to a file that is not there; {_AGAIN}")
    return path.is_file()


def _shards(name: str, folder: Path, index: str) -> list[Path]:
    """The files that an index lists."""
    found = read_json(name, folder / index)
    files = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise HeadatlasError(f"{index} of {name} names no files under weight_map; {_AGAIN}")
    names = sorted(set(files.values()))
    if strange := [file for file in names if Path(file).name != file or "\0" in file]:
        raise HeadatlasError(f"{index} of {name} names {strange[0]!r}, which is no file of this folder; {_AGAIN}")
    if missing := [file for file in names if not (folder / file).is_file()]:
        raise HeadatlasError(
            f"{name} lacks {len(missing)} of the {len(names)} files that {index} names ({', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''}); download {'it' if len(missing) == 1 else 'them'} again"
        )
    return [folder / file for file in names]


@contextmanager
def opened(name: str, files: list[Path]) -> Iterator[dict[str, Tracked]]:
    """Open weight files and yield all their tensors by name, readable while the files are open.

    Raises:
        HeadatlasError: if a file is broken, or two files hold a tensor of the same name.
    """
    found: dict[str, Tracked] = {}
    for path in files:
        tensors = _safetensors(name, path) if path.suffix == ".safetensors" else _pickled(name, path)
        if twice := sorted(found.keys() & tensors.keys()):
            raise HeadatlasError(f"{twice[0]} is in two files of {name}, {path.name} and another; {_AGAIN}")
        found |= tensors
    yield found


def _safetensors(name: str, path: Path) -> dict[str, Tracked]:
    header = require_whole(name, path)
    with explained(f"{path.name} of {name} cannot be read", _AGAIN):
        handle: Any = safe_open(path, framework="pt")
        return {
            key: Tracked(key, shape, lambda key=key: handle.get_slice(key))  # type: ignore[misc]
            for key, (_, shape) in header.items()
        }


def _pickled(name: str, path: Path) -> dict[str, Tracked]:
    if path.stat().st_size == 0:
        raise HeadatlasError(f"{path.name} of {name} is empty; {_AGAIN}")
    with explained(f"{path.name} of {name} cannot be read", f"{_AGAIN}; it must hold tensors alone, by name"):
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise HeadatlasError(
            f"{path.name} of {name} does not hold tensors by name (a checkpoint of a trainer?); save the model with "
            "save_pretrained"
        )
    return {
        str(key): Tracked(str(key), tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]
        for key, tensor in state.items()
    }
