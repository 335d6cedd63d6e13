"""A text as a model reads it: token ids, and each token as text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel
from headatlas.lab.activations.recording import batch_of

_BROKEN = "\ufffd"  # what a decoder gives for a part of a character
_LONGEST = 4  # bytes of a character


@dataclass(frozen=True, repr=False)
class Tokens:
    """The tokens of a text, after BOS if the model's prompts start with it. Iterating gives the words.

    Attributes:
        ids: token ids.
        words: each token as text. Where several tokens make one character, the last shows it, the others "…".
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __getitem__(self, position: int) -> str:
        return self.words[position]

    def __repr__(self) -> str:
        text = "|".join(self.words)
        return f"<{len(self)} tokens: {text if len(text) <= 300 else text[:299] + '…'}>"

    def _repr_html_(self) -> str:
        return "<p>" + " ".join(f"<code>{escape(word)}</code>" for word in self.words) + "</p>"


def tokens_of(model: OpenModel, text: str, most: int | None = None) -> Tokens:
    """Split a text as every measurement of headatlas does, and keep at most the first `most` tokens.

    Raises:
        HeadatlasError: for what is no text, has no tokens, or does not fit the model's context.
    """
    if not isinstance(text, str):
        raise HeadatlasError(
            f"give a text, not {type(text).__name__}; for token ids use headatlas.lab.record or forward"
        )
    ids = model.vocabulary.prompt(text)[:most]
    if not ids:
        raise HeadatlasError("the text has no tokens, and prompts of this model start without BOS; give some words")
    batch_of(model, [ids])
    return Tokens(ids, tuple(words_of(model.tokenizer, ids)))


def words_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as text; of tokens that make one character together, the last shows it, and the others "…"."""
    words: list[str] = []
    while len(words) < len(ids):
        rest = ids[len(words) : len(words) + _LONGEST]
        texts = [str(tokenizer.decode(list(rest[: count + 1]))) for count in range(len(rest))]
        whole = next((count for count, text in enumerate(texts) if _BROKEN not in text), 0)
        words += ["…"] * whole + [texts[whole]]
    return words
