"""The identity of an opened model: every part that can change a number. Does not import torch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Source = Literal["specimen", "folder", "hub", "loaded"]
PARTS = (
    "weights",
    "configuration",
    "tokenizer",
    "generation",
    "code",
    "adapter",
    "quantisation",
    "dtype",
    "attention",
)


class Identity(BaseModel):
    """The identity of a model: a hash or a word for each part, and `sha256` over all parts.

    `source`, `pickle` and `files` say where the model came from. They identify nothing: other files may hold the same
    model.
    """

    model_config = ConfigDict(extra="forbid")

    sha256: str
    weights: str  # sha256 of the files in order of their names, or of the numbers of a model in memory
    configuration: str  # sha256 of the loaded configuration
    tokenizer: str  # sha256 of vocabulary, merges, normalisation, added and special tokens
    generation: str  # sha256 of the chat template and the generation settings
    code: str | None  # sha256 of the code that is not part of an installed library
    adapter: str | None  # sha256 of the files of an adapter that was merged into the weights
    quantisation: str | None  # method and settings
    dtype: str  # dtype of the weights in memory; several if they differ
    attention: str  # the implementation of attention
    source: Source
    pickle: bool
    files: dict[str, str]  # sha256 of each file, by name

    @classmethod
    def of(cls, source: Source, pickle: bool, files: Mapping[str, str], **parts: str | None) -> "Identity":
        """The identity with these parts, one for each of `PARTS`."""
        whole = digest({name: parts[name] for name in PARTS})
        return cls.model_validate({**parts, "sha256": whole, "source": source, "pickle": pickle, "files": dict(files)})

    def differs(self, other: "Identity") -> list[str]:
        """The parts in which two identities differ; empty for the same model."""
        return [part for part in PARTS if getattr(self, part) != getattr(other, part)]


def digest(value: Any) -> str:
    """The sha256 of plain data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def folder_name(name: str) -> str:
    """What a model in a folder is called: as its folder, also where that was given as '.' or with '..'."""
    path = Path(name)
    return path.name if path.name not in ("", "..") else path.resolve().name
