"""Self-suppressing heads link a word to others of its kind, never to itself or its copies.

Claim      In a row of shuffled words the head attends from a word to other words of the same category, not to the word
           itself nor to earlier copies of it (migliarini2025selfhating; gott2025recreation).
Stimuli    Words of four kinds, shuffled, one of each kind twice; set apart in three ways. For the behaviour, a row of
           words of one kind.
Score      From each word, the summed attention to the earlier others of its kind (the authors take its negative
           logarithm), less that to the word itself and its copies, or less that to as many earlier words of other
           kinds, whichever is more: averaged over the words of a row.
Control    The same with the kinds dealt anew among the words of the row.
Behaviour  After a row of one kind, the logit of another word of that kind minus the mean of words of other kinds: the
           authors report that related tokens lose logit without the head, and do not describe the task.
Cause      The heads found are replaced by their mean over rows of all kinds: related words should lose their lead.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, attention_scores, logit_difference
from headatlas.script import Drawn
from headatlas.stimuli import Prompt, Readout, TooFewWordsError, Vocabulary, facts, ordinals
from headatlas.stimuli.lexicon import COLORS, NAMES

FAMILIES = {"in a row": "", "with commas": ",", "joined by and": " and"}
BEHAVIOUR = logit_difference
KINDS = {
    **{kind: facts.KINDS[kind] for kind in ("animal", "food", "vehicle")},
    **{kind: ordinals.CLASSES[kind] for kind in ("months", "number words")},
    **{"colors": COLORS, "names": NAMES[:60], "countries": tuple(facts.COUNTRIES)},
}


def kinds(words: Vocabulary) -> list[list[int]]:
    """The tokens of each kind of which the tokenizer keeps six words whole."""
    found = [[token for word in each if (token := words.single(word)) is not None] for each in KINDS.values()]
    kept = [tokens for tokens in found if len(tokens) >= 6]
    if len(kept) < 4:
        raise TooFewWordsError("fewer than four kinds have six words that are single tokens of this tokenizer")
    return kept


def row(words: Vocabulary, family: str, tokens: list[int]) -> tuple[int, ...]:
    """Tokens, set apart as the family has it."""
    apart = words.continuation(FAMILIES[family]) if FAMILIES[family] else ()
    return words.bos + tuple(each for token in tokens for each in (token, *apart))


def stimulus(words: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Four words of each of four kinds, one of them twice, in any order."""
    drawn = [rng.sample(tokens, 4) for tokens in rng.sample(kinds(words), 4)]
    shuffled = [token for four in drawn for token in (*four, four[0])]
    rng.shuffle(shuffled)
    made = row(words, family, shuffled)
    return Prompt(made, made)


def task(words: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Five words of one kind, and another that could follow; the control's are of other kinds."""
    mine, *rest = (rng.sample(tokens, 6) for tokens in rng.sample(kinds(words), 4))
    mixed = rng.sample([token for six in rest for token in six[:5]], 5)
    read = row(words, family, mine[:5])
    readout = Readout(len(read) - 1, mine[5], tuple(six[5] for six in rest))
    return Prompt(read, row(words, family, mixed), readouts=(readout,))


def detect(model: OpenModel, drawn: Drawn) -> Scores:
    """Attention within the kind, less that to the word itself or to other kinds: [prompt layer head]."""
    kind = {token: number for number, tokens in enumerate(kinds(model.vocabulary)) for token in tokens}

    def dealt(prompt: Prompt, number: int) -> dict[int, int]:
        mine = sorted({token for token in prompt.tokens if token in kind})
        return dict(zip(mine, random.Random(number).sample([kind[token] for token in mine], len(mine)), strict=True))

    def excess(kinds: list[dict[int, int]]) -> np.ndarray:
        like, itself, unlike = (
            attention_scores(model, [looking(*each, what) for each in zip(drawn.prompts, kinds, strict=True)]).score
            for what in ("like", "itself", "unlike")
        )
        return like - np.maximum(itself, unlike)

    anew = [dealt(prompt, number) for number, prompt in enumerate(drawn.prompts)]
    return Scores(excess([kind] * len(anew)), excess(anew))


def looking(prompt: Prompt, kind: dict[int, int], what: str) -> Prompt:
    """With pairs from each word that has enough before it: to its like, to itself and copies, or to as many unlike."""
    tokens, rng, found = prompt.tokens, random.Random(0), []
    places = [place for place, token in enumerate(tokens) if token in kind]
    for number, query in enumerate(places):
        copies = [key for key in places[:number] if tokens[key] == tokens[query]]
        others = [key for key in places[:number] if tokens[key] != tokens[query]]
        like = [key for key in others if kind[tokens[key]] == kind[tokens[query]]]
        unlike = [key for key in others if key not in like]
        if like and len(unlike) >= len(like):
            keys = {"like": like, "itself": [*copies, query], "unlike": rng.sample(unlike, len(like))}
            found += [(query, key) for key in keys[what]]
    return replace(prompt, pairs=tuple(found))
