"""What a folder says of the GGUF file that it was converted from: gguf.json, beside its weights."""

from dataclasses import dataclass, replace
from pathlib import Path

from gguf import GGMLQuantizationType, LlamaFileType

from headatlas.errors import HeadatlasError
from headatlas.evidence.identity import is_gguf
from headatlas.lab.loading.file_headers import read_json
from headatlas.lab.loading.gguf_header import GgufHeader

RECORD = "gguf.json"


@dataclass(frozen=True)
class Dequantised:
    """What a converted folder was made of, and how; written beside its weights as gguf.json.

    Attributes:
        file: name of the GGUF file.
        sha256: of the GGUF file.
        size: of the GGUF file, in bytes.
        quantisation: as the header calls it, such as 'Q4_1' or 'Q4_K_M'.
        name: what the header calls the model (general.name).
        dtype: what the weights were dequantised to.
        weights: sha256 of the file of weights that was written.
        transformers: version that read the file.
        gguf: version of the package gguf that read the file.
        unknown_split: the file's rule of how text is split into words, if that version of transformers does not know
            it and splits as GPT-2 does.
    """

    file: str
    sha256: str
    size: int
    quantisation: str
    name: str | None
    dtype: str
    weights: str
    transformers: str
    gguf: str
    unknown_split: str | None = None


def dequantised(name: str, folder: Path) -> Dequantised | None:
    """What a folder was converted from; None for a folder that was not.

    Raises:
        HeadatlasError: if its gguf.json cannot be read.
    """
    if not (folder / RECORD).is_file():
        return None
    try:
        found = Dequantised(**read_json(name, folder / RECORD))
        return replace(found, file=Path(name).name) if is_gguf(name) else found  # the same file may have other names
    except TypeError:
        raise HeadatlasError(f"{RECORD} of {name} is of another version of headatlas; delete {folder}") from None


def require_unchanged(name: str, folder: Path, made_of: Dequantised, weights: str) -> None:
    """Check that the weights are those that were written: the record speaks of the GGUF file, not of them.

    Args:
        weights: sha256 of the file of weights that is there.

    Raises:
        HeadatlasError: if they are others.
    """
    if weights != made_of.weights:
        raise HeadatlasError(
            f"the weights of {name} are not those that were dequantised from {made_of.file}; delete {folder}, and give "
            f"the GGUF file again (or delete its {RECORD}, if you changed the weights on purpose)"
        )


def quantisation(header: GgufHeader) -> str:
    """What the header calls its quantisation, such as 'Q4_K_M'; where it says nothing, how most numbers are stored."""
    said = header.keys.get("general.file_type")
    known = {int(each): each.name for each in LlamaFileType if each != LlamaFileType.GUESSED}
    if isinstance(said, int) and said in known:
        return known[said].removeprefix("MOSTLY_").removeprefix("ALL_")
    counts: dict[int, int] = {}
    for tensor in header.tensors:
        counts[tensor.kind] = counts.get(tensor.kind, 0) + tensor.count
    return GGMLQuantizationType(max(counts, key=lambda kind: counts[kind])).name
