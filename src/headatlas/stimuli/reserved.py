"""Which tokens of a tokenizer text is made of, and which are kept for other uses.

A reserved token is one that no text is written with: what the tokenizer calls special; markers and places kept free,
such as `<start_of_turn>`, `[unused3]`, `<|reserved_special_token_5|>`, `madeupword0001`, whether or not they are called
special; the bytes that SentencePiece falls back on, such as `<0x0A>`; pieces of nothing, or of what cannot be decoded;
and ids of the embedding that the tokenizer does not use. A model has seldom or never read one, so that its numbers say
nothing of what the model does with text.

Tokens that are part of a character, as byte-level tokenizers have them, are ordinary: text is written with them.
"""

import re
from collections.abc import Mapping
from typing import Any

# What a piece is written with besides its text: marks of spaces, line ends, continued words and ends of words.
_MARKS = re.compile(r"^(?:[\s▁ĠĊ]|##)+|(?:[\s▁ĠĊ]|</w>|@@)+$")
# A letter or digit as it stands in a name; not the Latin letters by which byte-level tokenizers write bytes.
_NAMED = r"[0-9A-Za-z\u0370-\u1fff\u3040-\u9fff\uac00-\ud7af]"
_RESERVED = (
    # A name in brackets: no tokenizer that splits words from punctuation learns one from text; somebody put it in.
    re.compile(rf"<(?=.*{_NAMED}).*>(?:NOTUSED)?|>>(?=.*{_NAMED}).*<<", re.DOTALL),
    re.compile(rf"\[(?=[^\]]*{_NAMED})[^\[\]]*\]\d*"),
    # A name without such brackets, told from a word by its number.
    re.compile(
        r"[\W_]*(?:made_?up_?word|unused|not_?used|reserved|special|control|dummy|placeholder|extra_?id|sentinel|filler"
        r"|padding|undefined|unassigned)(?:[_-]?[a-z]+)*[_-]?\d+[\W_]*",
        re.IGNORECASE,
    ),
    re.compile(r"[\x00\ufffd]*"),  # what could not be decoded
)
# How every such piece ends; few of a large vocabulary do.
_SUSPECT = re.compile(r"[>\]<\d\x00\ufffd](?:NOTUSED)?[\W_]{0,4}(?:</w>)?$")


def ordinary_ids(tokenizer: Any, size: int) -> list[int]:
    """The ids below `size` of tokens that text is made of, in order.

    Args:
        tokenizer: a transformers tokenizer; of one that cannot list its pieces, all ids that are not special.
        size: how many token ids the model's embedding has.
    """
    special = special_ids(tokenizer)
    return sorted(
        id for piece, id in _vocabulary(tokenizer).items() if id < size and id not in special and not is_reserved(piece)
    )


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that a tokenizer calls special: those with a role, and all that were added as special."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids).union(id for id, token in added.items() if token.special)


def is_reserved(piece: str) -> bool:
    """Whether a piece of a vocabulary is, by its name, none that text is made of."""
    if not _SUSPECT.search(piece):
        return not piece
    text = _MARKS.sub("", piece)  # nothing is left of a space, a line end or the end of a word
    return bool(text) and any(pattern.fullmatch(text) for pattern in _RESERVED)


def _vocabulary(tokenizer: Any) -> Mapping[str, int]:
    """Every piece that the tokenizer uses, with its id."""
    if hasattr(tokenizer, "get_vocab"):
        found: Mapping[str, int] = tokenizer.get_vocab()
        return found
    return {f"piece {id}.": id for id in range(len(tokenizer))}
