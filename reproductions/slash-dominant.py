"""Slash-dominant heads give much of their attention to one fixed distance back, in any text.

Claim      On the head's attention map a line lies parallel to the diagonal. The line is the head's own: it is there on
           random tokens as well as on text (cheng2026demystifying).
Stimuli    Stories, sentences of known grammar and lists of pairs, 96 tokens of each, and random tokens of the same
           length. For the behaviour, 40 tokens of such a text.
Score      The average slash score: the attention that each token gives to the token a number of places before it,
           averaged over tokens, at the head's best distance from 1 to 24. Of text and random tokens the smaller counts,
           as the line must be on both. Three things differ from the definition: distance 0 is left out, as a head that
           matches equal tokens looks there too; the first token is no target, as most heads rest on it; and distances
           end at 24, where the authors also follow long ones. How the authors explain the line, by queries and keys
           that are alike for all tokens and by rotary frequencies, is not measured.
Control    The mean of the same score over the head's other distances: a head that spreads over recent tokens has no
           line.
Behaviour  The log-probability of the text's next token, minus the same where the tokens before the last one stand in
           another order: what the order of tokens is worth to the model.
Cause      The heads found are replaced by their mean: order should be worth less. The authors intervene on no head.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, log_probability, pattern_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, texts

FAMILIES = {"stories": "stories", "sentences": "sentences", "lists": "lists"}
BEHAVIOUR, CONTRAST = log_probability, True
LENGTH, READ = 96, 40  # tokens for the score, and for the behaviour
OFFSETS = range(1, 25)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text; its corrupted prompt is random tokens, all different."""
    text = texts.cut(vocab, FAMILIES[family], LENGTH, rng)
    return Prompt(vocab.bos + text, vocab.bos + vocab.draw(rng, LENGTH))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A shorter text; in the corrupted prompt the tokens before the last one are shuffled."""
    return texts.ordered(vocab, FAMILIES[family], READ, rng)


def lines(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean attention at each distance, from tokens whose target is not the first token: [layer head offset]."""
    each = [np.diagonal(pattern, -offset, axis1=-2, axis2=-1)[..., 1:].mean(-1) for offset in OFFSETS]
    return np.stack(each, -1)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The slash score at the head's best distance, and its mean over all others: [prompt layer head] each."""
    on_text, on_random = (pattern_scores(model, sample.prompts, lines, corrupted) for corrupted in (False, True))
    smaller = np.minimum(on_text, on_random)  # [prompt layer head offset]
    best = smaller.mean(0).argmax(-1)[None, ..., None]
    score = np.take_along_axis(smaller, best, -1)[..., 0]
    return Scores(score, (smaller.sum(-1) - score) / (len(OFFSETS) - 1))
