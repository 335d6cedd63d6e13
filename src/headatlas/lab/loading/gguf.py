"""Dequantises a GGUF file once with transformers' own reader, and keeps it as a Hugging Face folder."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from headatlas import locations
from headatlas.errors import HeadatlasError
from headatlas.lab.loading.file_headers import explained, first_line
from headatlas.progress import Progress, no_progress
from headatlas.quiet import quiet

RECORD = "gguf.json"
_STEPS = 4


def converted(file: Path, progress: Progress = no_progress) -> Path:
    """The folder in the user's cache that holds a GGUF file dequantised; converts it on first use.

    Raises:
        HeadatlasError: if the file cannot be read.
    """
    folder = locations.cache() / "gguf" / _sha256(file)
    if not (folder / RECORD).is_file():
        convert(file, folder, progress)
    return folder


def convert(file: Path, folder: Path, progress: Progress = no_progress) -> None:
    """Dequantise a GGUF file once, and write it as a Hugging Face folder.

    The folder gets config.json, the tokenizer's files, model.safetensors in float32, and gguf.json, which says what was
    converted and by which versions. It is written beside its place under another name and renamed at the end: on an
    error nothing is left.

    Raises:
        HeadatlasError: if the file cannot be read or the folder cannot be written.
    """
    with _written(folder) as place, quiet():
        progress(f"reading {file.name}", 0, _STEPS)
        model = _model(file)
        progress(f"building the tokenizer of {file.name}", 1, _STEPS)
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        progress(f"writing {file.name} as float32", 2, _STEPS)
        model.save_pretrained(place, max_shard_size="1000TB")
        tokenizer.save_pretrained(place)
        progress(f"writing {file.name} as float32", 3, _STEPS)
        (place / RECORD).write_text(json.dumps(_record(file), indent=2) + "\n", encoding="utf-8")
        progress(f"writing {file.name} as float32", _STEPS, _STEPS)


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end, or disappears on an error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise HeadatlasError(f"{folder} cannot be written ({error.strerror}); check it") from None
    try:
        with explained(f"{folder} cannot be written", "make room on the disk, and run again"):
            yield place
            if not (folder / RECORD).is_file():  # else another process was first
                os.replace(place, folder)  # noqa: PTH105
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _model(file: Path) -> Any:
    """The dequantised model, without its weights' history."""
    settings: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):
        settings["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, **settings
        )
    except Exception as error:
        raise HeadatlasError(f"{file.name} cannot be read ({first_line(error)}); download it again") from None
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = type(model)._from_config(config, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict(), strict=True)
    fresh.tie_weights()
    return fresh


def _record(file: Path) -> dict[str, Any]:
    import importlib.metadata

    return {
        "file": file.name,
        "sha256": _sha256(file),
        "size": file.stat().st_size,
        "quantisation": None,
        "name": None,
        "dtype": "float32",
        "transformers": transformers.__version__,
        "gguf": importlib.metadata.version("gguf"),
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
