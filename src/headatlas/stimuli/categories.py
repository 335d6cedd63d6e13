"""Rows of words from several semantic categories, mixed or from a single one."""

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from headatlas.stimuli import facts, ordinals
from headatlas.stimuli.lexicon import COLORS, NAMES
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{kind: facts.KINDS[kind] for kind in ("animal", "food", "vehicle")},
        **{kind: ordinals.CLASSES[kind] for kind in ("months", "number words")},
        **{"colors": COLORS, "names": NAMES[:60], "countries": tuple(facts.COUNTRIES)},
    }
)


def tokens(words: Vocabulary) -> list[list[int]]:
    """Token ids of each category that has at least six single-token words.

    Raises:
        UntestableError: if fewer than four categories have.
    """
    found = [[token for word in each if (token := words.single(word)) is not None] for each in KINDS.values()]
    kept = [each for each in found if len(each) >= 6]
    if len(kept) < 4:
        raise UntestableError("fewer than four kinds have six words that are single tokens of this tokenizer")
    return kept


def _row(words: Vocabulary, apart: str, row: list[int]) -> tuple[int, ...]:
    between = words.continuation(apart) if apart else ()
    return words.bos + tuple(each for token in row for each in (token, *between))


def mixed(words: Vocabulary, apart: str, rng: random.Random) -> Prompt:
    """Four words from each of four categories, one repeated, shuffled, each followed by `apart`; corrupted = itself."""
    drawn = [rng.sample(each, 4) for each in rng.sample(tokens(words), 4)]
    shuffled = [token for four in drawn for token in (*four, four[0])]
    rng.shuffle(shuffled)
    made = _row(words, apart, shuffled)
    return Prompt(made, made)


def of_one(words: Vocabulary, apart: str, rng: random.Random) -> Prompt:
    """Five words of one category. The answer is a sixth of that category, the rivals come from other categories, and
    the corrupted prompt lists words of these others.
    """
    mine, *rest = (rng.sample(each, 6) for each in rng.sample(tokens(words), 4))
    others = rng.sample([token for six in rest for token in six[:5]], 5)
    read = _row(words, apart, mine[:5])
    readout = Readout(len(read) - 1, mine[5], tuple(six[5] for six in rest))
    return Prompt(read, _row(words, apart, others), readouts=(readout,))


def paired(prompt: Prompt, kind: Mapping[int, int], what: Literal["like", "itself", "unlike"]) -> Prompt:
    """Add pairs from each word to earlier ones: of its category, itself and its copies, or as many of other categories.

    Words without an earlier word of their category, or with fewer of others, get no pairs at all.

    Args:
        prompt: the row.
        kind: category of each word, by token.
        what: which pairs: 'like' (same category), 'itself', or 'unlike' (other categories).
    """
    ids, rng, found = prompt.tokens, random.Random(0), list[tuple[int, int]]()
    places = [place for place, token in enumerate(ids) if token in kind]
    for number, query in enumerate(places):
        copies = [key for key in places[:number] if ids[key] == ids[query]]
        others = [key for key in places[:number] if ids[key] != ids[query]]
        like = [key for key in others if kind[ids[key]] == kind[ids[query]]]
        unlike = [key for key in others if key not in like]
        if like and len(unlike) >= len(like):
            keys = {"like": like, "itself": [*copies, query], "unlike": rng.sample(unlike, len(like))}
            found += [(query, key) for key in keys[what]]
    return replace(prompt, pairs=tuple(found))
