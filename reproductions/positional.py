"""Positional heads always look the same number of tokens away, whatever the tokens are.

Claim      For at least nine in ten tokens the head's largest weight lies at one and the same relative position. Such
           heads are among the most important of a translation model and are the last to go when heads are pruned
           (voita2019analyzing).
Stimuli    For the score, random tokens in three lengths, so that neither content nor the place in the text gives an
           offset away. The first token counts as any other: a head that rests there has no offset. For the behaviour,
           stories.
Score      The authors' rule: the share of tokens whose largest weight lies at the head's commonest offset. A decoder
           has no next token, so offsets run from 1 to 8 back; 0 is left out, as a head that matches equal tokens looks
           there too.
Control    The same share after the places that are looked at were dealt to the tokens in another order.
Behaviour  The log-probability of a story's next token, minus the same where the tokens before the last one stand in
           another order: what the order of words is worth to the model.
Cause      The heads found are replaced by their mean, where the authors prune: order should be worth less.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, log_probability, pattern_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, stories

FAMILIES = {"twenty tokens": 20, "forty tokens": 40, "sixty tokens": 60}
BEHAVIOUR, CONTRAST = log_probability, True
OFFSETS = np.arange(1, 9)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Random tokens, all different."""
    tokens = vocab.bos + vocab.draw(rng, FAMILIES[family])
    return Prompt(tokens, tokens)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story, cut as the family says; in the corrupted prompt the tokens before the last one are shuffled."""
    *before, last, answer = vocab.encode(stories.story(13, rng))[: FAMILIES[family] + 1]
    tokens, corrupted = ((*vocab.bos, *each, last) for each in (before, rng.sample(before, len(before))))
    return Prompt(tokens, corrupted, readouts=(Readout(len(tokens) - 1, answer),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of tokens at the head's commonest offset, as they are and shuffled: [prompt layer head] each."""
    rng = np.random.default_rng(0)

    def shares(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
        queries = np.arange(OFFSETS[-1] + 1, len(prompt.tokens))  # those that have all offsets behind the first token
        keys = pattern[..., queries, :].argmax(-1)  # [layer head query]
        back = np.stack([queries - keys, queries - rng.permutation(keys, axis=-1)])
        counted: NDArray[np.float64] = (back[..., None] == OFFSETS).mean(-2)  # [2 layer head offset]
        return counted

    found = pattern_scores(model, sample.prompts, shares)  # [prompt 2 layer head offset]
    commonest = found[:, 0].mean(0).argmax(-1)[None, None, ..., None]
    score, null = np.take_along_axis(found, commonest, -1)[..., 0].swapaxes(0, 1)
    return Scores(score, null)
