"""Prompt types: tokens, corrupted prompt, attention pairs, and readouts."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from headatlas.errors import HeadatlasError
from headatlas.stimuli import reserved


@dataclass(frozen=True)
class Readout:
    """A position where the model must answer, with the right and wrong answers.

    Attributes:
        position: where the logits are read.
        answer: the right token.
        rivals: wrong tokens.
        alike: number of rivals, from the first, in the answer's category; None if categories are not distinguished.
    """

    position: int
    answer: int
    rivals: tuple[int, ...] = ()
    alike: int | None = None


Pairs = tuple[tuple[int, int], ...]  # (query position, key position), any number


@dataclass(frozen=True)
class ProbeLabel:
    """Label that a linear probe must predict, and the group that must not be split between training and test."""

    value: int
    group: str = ""


@dataclass(frozen=True)
class Prompt:
    """One stimulus, in token ids.

    Attributes:
        tokens: the prompt.
        corrupted: the corrupted (counterfactual) prompt, of equal length and without the feature under study. Patching
            and ablation take activations from it.
        pairs: (query, key) positions where a head of this type has its attention weight.
        null_pairs: positions in the corrupted prompt for the null of the score, if they differ from `pairs`.
        readouts: where the behaviour is read from the logits.
        alternatives: further prompts of equal length, named by what they change.
        spans: positions by role, such as 'subject' or 'relation'.
        probe: label and group, for probes.
    """

    tokens: tuple[int, ...]
    corrupted: tuple[int, ...]
    pairs: Pairs = ()
    null_pairs: Pairs = ()
    readouts: tuple[Readout, ...] = ()
    alternatives: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    probe: ProbeLabel | None = None

    def __post_init__(self) -> None:
        length = len(self.tokens)
        for name, tokens in (("the corrupted prompt", self.corrupted), *self.alternatives.items()):
            if len(tokens) != length:
                raise ValueError(f"{name} has {len(tokens)} tokens, the prompt {length}; they must align")
        for query, key in (*self.pairs, *self.null_pairs):
            if not 0 <= key <= query < length:
                raise ValueError(f"pair ({query}, {key}) does not lie in a causal prompt of {length} tokens")
        for readout in self.readouts:
            if not 0 <= readout.position < length:
                raise ValueError(f"readout at {readout.position} lies outside a prompt of {length} tokens")
        for role, positions in self.spans.items():
            if any(not 0 <= position < length for position in positions):
                raise ValueError(f"the span of {role!r} lies outside a prompt of {length} tokens")
        if (lowest := min(self.ids, default=0)) < 0:
            raise ValueError(f"{lowest} is no token; token ids count from 0")

    @property
    def ids(self) -> Iterable[int]:
        """Every token id of the prompt, the corrupted prompt, the alternatives, the answers and their rivals."""
        answers = (id for readout in self.readouts for id in (readout.answer, *readout.rivals))
        return chain(self.tokens, self.corrupted, *self.alternatives.values(), answers)


def probe_labels(prompts: Iterable[Prompt]) -> list[int]:
    """The probe label of each prompt.

    Raises:
        ValueError: if a prompt has none.
    """
    return [_labelled(prompt).value for prompt in prompts]


def probe_groups(prompts: Iterable[Prompt]) -> list[str]:
    """The probe group of each prompt; groups are not split between training and test.

    Raises:
        ValueError: if a prompt has no label.
    """
    return [_labelled(prompt).group for prompt in prompts]


def _labelled(prompt: Prompt) -> ProbeLabel:
    if prompt.probe is None:
        raise ValueError("a prompt has no probe label; give it one")
    return prompt.probe


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

    @property
    def bos(self) -> tuple[int, ...]:
        """The token every prompt starts with; empty if the tokenizer has none."""
        bos = self.tokenizer.bos_token_id
        return () if bos is None else (bos,)

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

    def single(self, word: str) -> int | None:
        """The id of ' word' if it is one token, else None."""
        try:
            ids = self.continuation(f" {word}")
        except UntestableError:
            return None
        return ids[0] if len(ids) == 1 else None

    def number(self, value: int) -> tuple[tuple[int, ...], int]:
        """Tokens that this tokenizer puts before a number in a text (a space, or nothing), and the number's token.

        Raises:
            UntestableError: if the number is not one token.
        """
        *before, token = self.continuation(f" {value}")
        if before and tuple(before) != self.encode(" "):
            raise UntestableError(f"the number {value} is not a single token of this tokenizer")
        return tuple(before), token

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


class UntestableError(HeadatlasError):
    """Raised if a stimulus cannot be made for this model, so that the finding cannot be tested on it."""
