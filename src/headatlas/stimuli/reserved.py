"""Separates a tokenizer's ordinary tokens, which occur in text, from reserved ones.

Reserved are: special tokens; markers and placeholders such as `<start_of_turn>`, `[unused3]`,
`<|reserved_special_token_5|>` or `madeupword0001`, declared special or not; SentencePiece's byte fallbacks such as
`<0x0A>`; empty or undecodable pieces; and embedding ids that the tokenizer does not use. A model has seen them rarely
or never, so its activations on them say nothing about its behaviour on text.

Parts of characters, as in byte-level tokenizers, are ordinary tokens.
"""

import re
from collections.abc import Mapping
from typing import Any

# Marks around the text of a piece: spaces, line ends, word continuations and word ends.
_MARKS = re.compile(r"^(?:[\s▁ĠĊ]|##)+|(?:[\s▁ĠĊ]|</w>|@@)+$")
# A letter or digit in a name; excludes the Latin letters with which byte-level tokenizers write bytes.
_NAMED = r"[0-9A-Za-z\u0370-\u1fff\u3040-\u9fff\uac00-\ud7af]"
_RESERVED = (
    # A name in brackets. Tokenizers that split words from punctuation never learn such pieces from text.
    re.compile(rf"<(?=.*{_NAMED}).*>(?:NOTUSED)?|>>(?=.*{_NAMED}).*<<", re.DOTALL),
    re.compile(rf"\[(?=[^\]]*{_NAMED})[^\[\]]*\]\d*"),
    # A name without brackets, distinguished from a word by its number.
    re.compile(
        r"[\W_]*(?:made_?up_?word|unused|not_?used|reserved|special|control|dummy|placeholder|extra_?id|sentinel|filler"
        r"|padding|undefined|unassigned)(?:[_-]?[a-z]+)*[_-]?\d+[\W_]*",
        re.IGNORECASE,
    ),
    re.compile(r"[\x00\ufffd]*"),  # undecodable
)
# The endings of all such pieces, for a quick first test.
_SUSPECT = re.compile(r"[>\]<\d\x00\ufffd](?:NOTUSED)?[\W_]{0,4}(?:</w>)?$")


def ordinary_ids(tokenizer: Any, size: int) -> list[int]:
    """The ids below `size` of ordinary tokens, in order.

    Args:
        tokenizer: a transformers tokenizer; if it cannot list its pieces, all ids that are not special count.
        size: number of embeddings of the model.
    """
    special = special_ids(tokenizer)
    return sorted(
        id for piece, id in _vocabulary(tokenizer).items() if id < size and id not in special and not is_reserved(piece)
    )


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of a tokenizer's special tokens: those with a role, and all that were added as special."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids).union(id for id, token in added.items() if token.special)


def is_reserved(piece: str) -> bool:
    """Whether a piece of a vocabulary is reserved, judged by its name."""
    if not _SUSPECT.search(piece):
        return not piece
    text = _MARKS.sub("", piece)  # empty for a space, a line end or a word end
    return bool(text) and any(pattern.fullmatch(text) for pattern in _RESERVED)


def _vocabulary(tokenizer: Any) -> Mapping[str, int]:
    """Every piece of the tokenizer, with its id."""
    if hasattr(tokenizer, "get_vocab"):
        found: Mapping[str, int] = tokenizer.get_vocab()
        return found
    return {f"piece {id}.": id for id in range(len(tokenizer))}
