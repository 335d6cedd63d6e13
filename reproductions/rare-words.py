"""Rare-words heads look at the rarest word of a text from everywhere in it.

Claim      In translation encoders one head of the first layer has its largest weight on the rarest token of the
           sentence in two of three sentences (voita2019analyzing). No decoder is known to have one.
Stimuli    Plain sentences with one rare word, alone, after another sentence, and before one. What is rare is taken from
           our own lists of words, since the training counts of open models are mostly unknown.
Score      The share of tokens after the rare word whose largest weight is on it, the first token and the token itself
           left out. A decoder cannot look ahead, so tokens before it are not asked. All layers are.
Control    The same where a common noun stands in its place: a head for that position, or for nouns, does as well.
Behaviour  Asked for the rare word of the text at its end, the logit of that word minus that of another rare word.
Cause      The heads found are replaced by their mean over texts with another rare word: the lead should shrink. The
           authors prune instead, and find the head kept among the last.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference, pattern_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, lookup
from headatlas.stimuli.cases import Case, aligned, tokenize
from headatlas.stimuli.lexicon import NAMES, THINGS

FAMILIES = {"alone": (0, 0), "after a sentence": (1, 0), "before a sentence": (0, 1)}  # sentences before and after
BEHAVIOUR = logit_difference


def case(vocab: Vocabulary, family: str, rng: random.Random) -> Case:
    """A text with one rare word, and the question for it; names and rare words are single tokens."""
    names, rare = vocab.singles(NAMES, at_least=20), vocab.singles(lookup.RARE, at_least=12)
    return lookup.rare_word("train", rng, *FAMILIES[family], names, rare)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The text without its question; in the corrupted prompt the rare word is a common one."""
    text = tokenize(vocab, case(vocab, family, rng).segments[:-1])
    (rare,) = text.at("rare")
    common = [vocab.continuation(f" {noun}")[0] for noun in vocab.singles(THINGS, at_least=20)]
    other = rng.choice([token for token in common if token not in text.ids])
    return Prompt(
        tokens=text.ids,
        corrupted=(*text.ids[:rare], other, *text.ids[rare + 1 :]),
        pairs=tuple((query, rare) for query in range(rare + 1, len(text.ids))),
    )


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The text and its question; the corrupted prompt has another rare word."""
    return aligned(vocab, lambda: case(vocab, family, rng))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of later tokens that look most at the rare word, or the common one: [prompt layer head]."""
    score, null = (pattern_scores(model, sample.prompts, share, corrupted) for corrupted in (False, True))
    return Scores(score, null)


def share(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the pairs of a prompt, those whose key is the largest of the query: [layer head]."""
    others = pattern * ~np.eye(len(prompt.tokens), dtype=bool)
    others[..., 0] = 0.0
    queries, keys = zip(*prompt.pairs, strict=True)
    hits: NDArray[np.float64] = (others[..., queries, :].argmax(-1) == keys).mean(-1)
    return hits
