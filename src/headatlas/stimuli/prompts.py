"""Typed prompts: tokens, their control twin, where a head should look, and what the model should answer."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from headatlas.errors import HeadatlasError
from headatlas.stimuli import reserved


@dataclass(frozen=True)
class Readout:
    """Where the model must answer, what is right, and what would be wrong."""

    position: int
    answer: int
    rivals: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """One stimulus in token ids.

    Attributes:
        tokens: what the model reads.
        control: its twin of the same length, in which the thing under study is absent.
        pairs: (query, key) positions between which a head of this type has its attention.
        control_pairs: where the control is looked at instead, when not at the same pairs.
        readouts: where behaviour is read.
        placebo: another twin, which differs from it in nothing that is under study; or nothing.
        label, group: of the prompt, for probes: what is to be read off it, and what must not be on both sides of a
            split.
    """

    tokens: tuple[int, ...]
    control: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    control_pairs: tuple[tuple[int, int], ...] = ()
    readouts: tuple[Readout, ...] = ()
    placebo: tuple[int, ...] = ()
    label: int | None = None
    group: str = ""

    def __post_init__(self) -> None:
        length = len(self.tokens)
        for name, twin in (("control", self.control), ("placebo", self.placebo or self.tokens)):
            if len(twin) != length:
                raise ValueError(f"{name} has {len(twin)} tokens, the prompt {length}; they must align")
        for query, key in (*self.pairs, *self.control_pairs):
            if not 0 <= key <= query < length:
                raise ValueError(f"pair ({query}, {key}) does not lie in a causal prompt of {length} tokens")
        for readout in self.readouts:
            if not 0 <= readout.position < length:
                raise ValueError(f"readout at {readout.position} lies outside a prompt of {length} tokens")
        if (lowest := min(self.ids, default=0)) < 0:
            raise ValueError(f"{lowest} is no token; token ids count from 0")

    @property
    def ids(self) -> Iterable[int]:
        """Every token id in it: of the prompt, its control and placebo, the answers and the rivals."""
        answers = (id for readout in self.readouts for id in (readout.answer, *readout.rivals))
        return chain(self.tokens, self.control, self.placebo, answers)


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as stimuli see it: words that are one token, ordinary tokens to draw from, and BOS.

    Args:
        tokenizer: a transformers tokenizer (anything with `encode`, `all_special_ids`, `bos_token_id` and a length;
            with `get_vocab`, where reserved tokens are to be known by their names).
        size: how many token ids the model's embedding has; ids from there on are never drawn.
    """

    tokenizer: Any
    size: int
    _cache: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def bos(self) -> tuple[int, ...]:
        """The token every prompt starts with, or nothing where the tokenizer has none."""
        bos = self.tokenizer.bos_token_id
        return () if bos is None else (bos,)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of the text alone, without special tokens.

        Raises:
            TooFewWordsError: where the tokenizer knows no tokens for it, or gives ids the model does not have.
        """
        if text not in self._cache:
            ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
            if ids and max(ids) >= self.size:
                raise TooFewWordsError(
                    f"the tokenizer gives token {max(ids)}, and the model knows only {self.size}: they do not belong "
                    "together"
                )
            if not self._special.isdisjoint(ids):
                raise TooFewWordsError(f"the tokenizer has no tokens for {text[:40]!r}")
            self._cache[text] = ids
        return self._cache[text]

    def continuation(self, text: str) -> tuple[int, ...]:
        """Token ids of the text where it follows other text: some tokenizers write the start of a text otherwise."""
        before = self.encode(".")
        whole = self.encode("." + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.encode(text)

    def single(self, word: str) -> int | None:
        """The id of ' word' where it is one token, else None."""
        try:
            ids = self.continuation(f" {word}")
        except TooFewWordsError:
            return None
        return ids[0] if len(ids) == 1 else None

    def number(self, value: int) -> tuple[tuple[int, ...], int]:
        """What this tokenizer writes before a number in a text, a space of its own or nothing, and the number's token.

        Raises:
            TooFewWordsError: where the number is not one token.
        """
        *before, token = self.continuation(f" {value}")
        if before and tuple(before) != self.encode(" "):
            raise TooFewWordsError(f"the number {value} is not a single token of this tokenizer")
        return tuple(before), token

    def singles(self, words: Iterable[str], at_least: int = 1) -> tuple[str, ...]:
        """Those of the words that are one token with a leading space.

        Raises:
            HeadatlasError: where fewer than `at_least` are.
        """
        words = tuple(words)
        kept = tuple(word for word in words if self.single(word) is not None)
        if len(kept) < at_least:
            raise TooFewWordsError(
                f"only {len(kept)} of {len(words)} candidate words are a single token of this tokenizer, "
                f"and {at_least} are needed"
            )
        return kept

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def ordinary(self) -> Sequence[int]:
        """Every token id that text is made of, none that is special or kept free, for drawing random tokens."""
        return reserved.ordinary_ids(self.tokenizer, self.size)

    def draw(self, rng: random.Random, count: int) -> tuple[int, ...]:
        """`count` different ordinary tokens at random.

        Raises:
            HeadatlasError: where the vocabulary has fewer.
        """
        if len(self.ordinary) < count:
            raise TooFewWordsError(
                f"the vocabulary has {len(self.ordinary)} ordinary tokens and {count} different ones are needed"
            )
        return tuple(rng.sample(self.ordinary, count))


class TooFewWordsError(HeadatlasError):
    """The tokenizer cannot express enough of a stimulus; the finding cannot be tested on this model."""
