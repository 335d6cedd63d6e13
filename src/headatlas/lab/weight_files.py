"""Which weight files a model is read from, what their headers say, and which tensors were taken from them."""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from headatlas.errors import HeadatlasError
from headatlas.lab.folders import ADAPTER_CONFIG, other_weights

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_POINTER = b"version https://git-lfs"
_AGAIN = "download or save it again"
# How many bytes a number takes, by safetensors' name of its type.
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}


@dataclass
class Tracked:
    """A tensor of a file that is read when it is asked for, and notes that it was."""

    name: str
    shape: tuple[int, ...]
    _get: Callable[[], Any]
    read: bool = field(default=False, compare=False)

    def __getitem__(self, at: Any) -> torch.Tensor:
        self.read = True
        tensor: torch.Tensor = self._get()[at]
        return tensor

    def get_shape(self) -> list[int]:
        """As safetensors' slices have it."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """As safetensors' slices have it: such as 'F32'."""
        taken = self._get()
        return str(taken.get_dtype()) if hasattr(taken, "get_dtype") else str(taken.dtype)

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def whole(self) -> torch.Tensor:
        """All of it, without a note that it was read."""
        tensor: torch.Tensor = self._get()[...]
        return tensor


def chosen(name: str, folder: Path, config: Any, allow_pickle: bool) -> tuple[list[Path], list[Path]]:
    """The files that hold the weights, in order of their names, and others that hold weights of this model too.

    Raises:
        HeadatlasError: where there are none that may be read, or some are missing.
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
    """The files that an index names."""
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


def read_json(name: str, path: Path) -> Any:
    """A JSON file of a model.

    Raises:
        HeadatlasError: where it cannot be read, with where it breaks.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadatlasError(f"{path.name} of {name} cannot be read ({error.strerror}); see to it") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else first_line(error)
        empty = " (it is empty)" if path.stat().st_size == 0 else f" ({where})"
        raise HeadatlasError(f"{path.name} of {name} is not JSON{empty}; download or save it again") from None


def require_whole(name: str, path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What the header of a safetensors file says of each tensor: dtype and shape.

    Raises:
        HeadatlasError: where the file is cut, or its header does not fit it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            start = handle.read(len(_POINTER))
            (length,) = struct.unpack("<Q", start[:8]) if len(start) >= 8 else (0,)
            handle.seek(8)
            raw = handle.read(length) if length <= size - 8 else b""
    except OSError as error:
        raise HeadatlasError(f"{path.name} of {name} cannot be read ({error.strerror}); see to it") from None

    def wrong(why: str, advice: str = _AGAIN) -> HeadatlasError:
        return HeadatlasError(f"{path.name} of {name} {why}; {advice}")

    if size == 0:
        raise wrong("is empty")
    if start.startswith(_POINTER):
        raise wrong("is a pointer of Git LFS, not the weights", "run `git lfs pull` in its repository")
    if size < 8 or length > size - 8:
        raise wrong("is cut short, or no safetensors file: its header does not fit in")
    try:
        header = json.loads(raw)
        tensors = {key: said for key, said in header.items() if key != "__metadata__"}
        found = {key: (str(said["dtype"]), tuple(int(n) for n in said["shape"])) for key, said in tensors.items()}
        spans = sorted((int(said["data_offsets"][0]), int(said["data_offsets"][1])) for said in tensors.values())
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise wrong("has a header that is not safetensors'") from None
    if not found:
        raise wrong("holds no tensors")
    end = max(stop for _, stop in spans)
    if end > size - 8 - length:
        raise wrong(f"is cut short: it has {size:,} bytes, and its header speaks of {8 + length + end:,}")
    for key, (dtype, shape) in found.items():
        start_at, stop = (int(each) for each in tensors[key]["data_offsets"])
        if dtype in _BYTES and (min(shape, default=0) < 0 or stop - start_at != math.prod(shape) * _BYTES[dtype]):
            raise wrong(f"has a header that lies: {key} {list(shape)} of {dtype} is given {stop - start_at:,} bytes")
    if any(one[1] != two[0] for one, two in pairwise(spans)) or spans[0][0] != 0:
        raise wrong("has a header that lies: its tensors overlap or leave gaps")
    return found


@contextmanager
def opened(name: str, files: list[Path]) -> Iterator[dict[str, Tracked]]:
    """Every tensor of some weight files by its name, to be read while the files are open.

    Raises:
        HeadatlasError: where a file is broken, or two files hold a tensor of the same name.
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


@contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Say in one line what went wrong inside, whatever other libraries raise.

    Raises:
        HeadatlasError: what is wrong, why, and what to do.
    """
    try:
        yield
    except HeadatlasError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # libraries written in Rust panic with what is no Exception
        raise HeadatlasError(f"{what} ({first_line(error)}); {advice}") from None


def first_line(error: BaseException) -> str:
    """The first line of what an error says, cut to a length that can be read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
