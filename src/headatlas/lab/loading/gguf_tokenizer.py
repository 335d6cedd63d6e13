"""Writes and reads the tokenizer of a converted GGUF file, so that it stays the one that the file describes.

AutoTokenizer picks a class by the family of the model. Some of these classes build their rules from the vocabulary, and
would replace what the GGUF file said of how text is split and normalised.
"""

from pathlib import Path
from typing import Any

import transformers

from headatlas.errors import HeadatlasError


def write(name: str, tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer, as transformers built it from a GGUF file, into a folder.

    Raises:
        HeadatlasError: if it is another tokenizer when it is read again.
    """
    tokenizer.save_pretrained(folder)
    again = read(folder)
    if _parts(tokenizer) != _parts(again):
        raise HeadatlasError(
            f"the tokenizer of {name} changes when transformers {transformers.__version__} saves it; open the model's "
            "safetensors"
        )


def read(folder: Path) -> Any:
    """The tokenizer of a converted folder, by the rules in its tokenizer.json."""
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def _parts(tokenizer: Any) -> tuple[Any, ...]:
    """Rules and vocabulary, and the tokens that headatlas asks for."""
    return (
        tokenizer.backend_tokenizer.to_str(),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.chat_template,
    )
