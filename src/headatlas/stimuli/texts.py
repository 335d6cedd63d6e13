"""Plain texts of several kinds, cut to a number of tokens: stories, sentences of known grammar, lists of pairs."""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from headatlas.errors import HeadatlasError
from headatlas.stimuli import grammar, lookup, stories
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

_PARTS = 200  # pieces of text that are joined at most

# One piece of text of each kind; the next piece follows it.
KINDS: Mapping[str, Callable[[random.Random], str]] = MappingProxyType(
    {
        "stories": lambda rng: f" {stories.story(4, rng)}",
        "sentences": lambda rng: f" {''.join(part.text for part in grammar.sentences('train', rng))}",
        "lists": lambda rng: "".join(part.text for part in lookup.key_value("train", rng, 4).document),
    }
)


def cut(words: Vocabulary, kind: str, length: int, rng: random.Random) -> tuple[int, ...]:
    """The first `length` tokens of a text, without BOS.

    Args:
        words: vocabulary of the model.
        kind: a key of KINDS.
        length: number of tokens.
        rng: draws the text.

    Raises:
        HeadatlasError: if 200 pieces of text have fewer tokens.
    """
    text = ""
    for _ in range(_PARTS):
        text += KINDS[kind](rng)
        if len(found := words.encode(text.lstrip())) >= length:
            return found[:length]
    raise HeadatlasError(f"{_PARTS} pieces of text have fewer than {length} tokens; ask for fewer")


def ordered(words: Vocabulary, kind: str, length: int, rng: random.Random) -> Prompt:
    """`length` tokens of a text, read at the last one; in the corrupted prompt those before the last are shuffled.

    The readout's answer is the token that comes next in the text.

    Raises:
        HeadatlasError: as in `cut`.
    """
    *before, last, answer = cut(words, kind, length + 1, rng)
    tokens, corrupted = ((*words.bos, *each, last) for each in (before, rng.sample(before, len(before))))
    return Prompt(tokens, corrupted, readouts=(Readout(len(tokens) - 1, answer),))
