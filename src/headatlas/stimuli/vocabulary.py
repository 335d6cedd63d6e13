"""A tokenizer as stimuli use it."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from headatlas.errors import HeadatlasError
from headatlas.stimuli import reserved


class UntestableError(HeadatlasError):
    """Raised if a stimulus cannot be made for this model, so that the finding cannot be tested on it."""


class HasVocabulary(Protocol):
    """Anything with a vocabulary, such as an open model."""

    @property
    def vocabulary(self) -> "Vocabulary":
        """The tokenizer as stimuli use it."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as stimuli use it: single-token words, ordinary tokens to draw from, and BOS.

    Args:
        tokenizer: a transformers tokenizer, or any object with `encode`, `all_special_ids`, `bos_token_id` and a length
            (and `get_vocab`, to recognise reserved tokens by name).
        size: number of embeddings of the model; larger ids are never drawn.
    """

    tokenizer: Any
    size: int
    _cache: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def bos(self) -> tuple[int, ...]:
        """The token every prompt starts with; empty if `without_bos` says why there is none."""
        return () if self.without_bos else (self.tokenizer.bos_token_id,)

    @cached_property
    def without_bos(self) -> str:
        """Why prompts start without BOS; empty if they start with it.

        Some chat models (SmolLM2-Instruct) call the token that opens a turn of a chat BOS, and their tokenizer does not
        put it before text. A prompt that is no chat does not start with it.
        """
        bos = self.tokenizer.bos_token_id
        if bos is None:
            return "the tokenizer has no BOS"
        template = getattr(self.tokenizer, "chat_template", None)
        if template and str(self.tokenizer.bos_token) in str(template) and self.tokenizer("a").input_ids[:1] != [bos]:
            return f"{self.tokenizer.bos_token} opens a turn of a chat, and the tokenizer does not put it before text"
        return ""

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of the text, without special tokens.

        Raises:
            UntestableError: if the tokenizer has no tokens for it, or gives ids the model does not have.
        """
        if text not in self._cache:
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            if ids and max(ids) >= self.size:
                raise UntestableError(
                    f"the tokenizer gives token {max(ids)}, and the model knows only {self.size}: they do not belong "
                    "together"
                )
            if not self._special.isdisjoint(ids):
                raise UntestableError(f"the tokenizer has no tokens for {text[:40]!r}")
            self._cache[text] = ids
        return self._cache[text]

    def continuation(self, text: str) -> tuple[int, ...]:
        """Token ids of the text when it follows other text, which some tokenizers encode differently."""
        before = self.encode(".")
        whole = self.encode("." + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.encode(text)

    def prompt(self, text: str) -> tuple[int, ...]:
        """Token ids of a text as a model reads it, after BOS if the tokenizer has one."""
        return (*self.bos, *self.encode(text))

    def pieces(self, ids: Iterable[int]) -> str:
        """Decode tokens one by one, joined by bars: 'When| Mary| and'."""
        return "|".join(self.tokenizer.decode([id]) for id in ids)

    def one_token(self, text: str) -> int:
        """The id of a text that is a single token when it follows other text.

        Raises:
            HeadatlasError: if it is not a single token.
        """
        ids = self.continuation(text)
        if len(ids) != 1:
            space = f", perhaps {' ' + text!r} with a space before it" if text.strip() == text != "" else ""
            raise HeadatlasError(f"{text!r} is {len(ids)} tokens ({self.pieces(ids)}); give a single one{space}")
        return ids[0]

    def single(self, word: str) -> int | None:
        """The id of ' word' if it is one token, else None."""
        try:
            ids = self.continuation(f" {word}")
        except UntestableError:
            return None
        return ids[0] if len(ids) == 1 else None

    def told_apart(self, right: str, wrong: str) -> tuple[tuple[int, ...], int, int]:
        """The tokens that two answers begin with alike, and the token of each in which they first differ.

        Many tokenizers write numbers digit by digit, or the space before a number apart: a model that is to choose
        between 17 and 12 is read after the 1.

        Raises:
            UntestableError: if one answer is how the other begins.
        """
        one, other = self.continuation(right), self.continuation(wrong)
        for place, (mine, its) in enumerate(zip(one, other, strict=False)):
            if mine != its:
                return one[:place], mine, its
        raise UntestableError(f"{right!r} and {wrong!r} differ in no token before one of them ends")

    def singles(self, words: Iterable[str], at_least: int = 1) -> tuple[str, ...]:
        """The words that are one token with a leading space.

        Raises:
            UntestableError: if there are fewer than `at_least`.
        """
        words = tuple(words)
        kept = tuple(word for word in words if self.single(word) is not None)
        if len(kept) < at_least:
            raise UntestableError(
                f"only {len(kept)} of {len(words)} candidate words are a single token of this tokenizer, "
                f"and {at_least} are needed"
            )
        return kept

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def ordinary(self) -> Sequence[int]:
        """All token ids that text uses, without special and reserved ones; random tokens are drawn from them."""
        return reserved.ordinary_ids(self.tokenizer, self.size)

    def draw(self, rng: random.Random, count: int) -> tuple[int, ...]:
        """Draw `count` different ordinary tokens.

        Raises:
            UntestableError: if the vocabulary has fewer.
        """
        if len(self.ordinary) < count:
            raise UntestableError(
                f"the vocabulary has {len(self.ordinary)} ordinary tokens and {count} different ones are needed"
            )
        return tuple(rng.sample(self.ordinary, count))
