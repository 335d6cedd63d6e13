"""What identifies a model that was opened: everything that can change a number, part by part. No torch here."""

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
    """What was opened: a hash or a word for each part, and `sha256` over all of them.

    `source`, `pickle` and `files` say where it came from and identify nothing: the same model may lie in other files.
    """

    model_config = ConfigDict(extra="forbid")

    sha256: str
    weights: str  # sha256 of the files in order of their names; of the numbers themselves where they were in memory
    configuration: str  # sha256 of the configuration as it was loaded
    tokenizer: str  # sha256 of vocabulary, merges, normalisation, added and special tokens
    generation: str  # sha256 of the chat template and the generation settings
    code: str | None  # sha256 of the code that is not part of an installed library
    adapter: str | None  # sha256 of the files of an adapter that was merged into the weights
    quantisation: str | None  # method and settings
    dtype: str  # of the weights in memory; several where they differ
    attention: str  # the implementation of attention
    source: Source
    pickle: bool
    files: dict[str, str]  # sha256 of each file that was there to be read, by name

    @classmethod
    def of(cls, source: Source, pickle: bool, files: Mapping[str, str], **parts: str | None) -> "Identity":
        """The identity that has these parts, each of `PARTS`."""
        whole = digest({name: parts[name] for name in PARTS})
        return cls.model_validate({**parts, "sha256": whole, "source": source, "pickle": pickle, "files": dict(files)})

    def differs(self, other: "Identity") -> list[str]:
        """The parts in which two identities differ; none where both are of one model."""
        return [part for part in PARTS if getattr(self, part) != getattr(other, part)]


def digest(value: Any) -> str:
    """The sha256 of plain data, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def folder_name(name: str) -> str:
    """What a model in a folder is called: as its folder, also where that was given as '.' or with '..'."""
    path = Path(name)
    return path.name if path.name not in ("", "..") else path.resolve().name
