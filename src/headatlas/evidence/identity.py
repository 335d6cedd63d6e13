"""The identity of an opened model: every part that can change a number. Does not import torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Source = Literal["specimen", "folder", "hub", "loaded"]
_QUANTISATIONS = r"(i?q\d(_\w+)?|tq\d_\d|b?f16|fp?16|f32|fp32|mxfp4(_moe)?|nvfp4)"
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


def is_gguf(name: str) -> bool:
    """Whether a name ends as those of GGUF files do."""
    return name.lower().endswith(".gguf")


def base_name(name: str) -> str:
    """What a model is called: as its folder, its hub id, or its GGUF file without format, part and quantisation."""
    path = Path(name)
    if path.is_dir():
        return _file_base(file) if (file := _converted_from(path)) else folder_name(name)
    if not is_gguf(name):
        return name
    return _file_base(path.name) if path.is_file() or name.count("/") < 2 else "/".join(name.split("/")[:2])


def title(name: str, quantisation: str | None) -> str:
    """What records call a model: 'specimen', 'owner/name', 'SmolLM2-135M-Instruct (Q4_1)'."""
    shown = f" ({quantisation})" if quantisation else ""
    return f"{base_name(name).removesuffix(shown)}{shown}"


def folder_id(name: str, quantisation: str | None = None) -> str:
    """A title as the name of a folder: 'gpt2', 'EleutherAI--pythia-70m', 'SmolLM2-135M-Instruct-Q4_1'."""
    base = base_name(name).removesuffix(f" ({quantisation})")
    plain = re.sub(r"[^\w.-]+", "-", base.replace("/", "--"))
    return f"{plain}-{quantisation}" if quantisation else plain


def _file_base(file: str) -> str:
    """The name of a GGUF file without '.gguf', '-00001-of-00003', and the quantisation."""
    plain = re.sub(r"(-\d+-of-\d+)?\.gguf$", "", file, flags=re.IGNORECASE)
    return re.sub(rf"[-._ ]+{_QUANTISATIONS}$", "", plain, flags=re.IGNORECASE) or "gguf"


def _converted_from(folder: Path) -> str | None:
    """The name of the GGUF file that a folder was converted from, if it was."""
    try:
        found = json.loads((folder / "gguf.json").read_text(encoding="utf-8"))
        return str(found["file"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def folder_name(name: str) -> str:
    """What a model in a folder is called: as its folder, also where that was given as '.' or with '..'."""
    path = Path(name)
    return path.name if path.name not in ("", "..") else path.resolve().name
