"""Forerunner token heads look, at the label of an example, at the token before it, which holds the example's text.

Claim      In a few-shot prompt the head attends from a label to the token right before it, the forerunner token, with
           more than 5/n in a prompt of n tokens, and so merges the text's meaning with the label (cho2025revisiting).
Stimuli    Four short texts with their labels and a fifth: reviews, topics, and kinds of questions. For the score the
           prompt ends with the fifth label, as in the authors' count; for behaviour and cause before it. The authors
           take texts of six data sets.
Score      The authors' count: on which share of the prompts the attention from the last label to the token before it is
           more than 5/n.
Control    The same share among the tokens of the last text, each to the token before it. The authors' count has no such
           control, and a head that attends one back everywhere passes it; they plot both kinds of attention elsewhere.
           Here a head that attends one back at most tokens can still pass, if it does so at labels more often.
Behaviour  How often the right label has a larger logit than the other.
Cause      The links from the forerunner tokens to the four labels are cut in the heads found: the weight goes to other
           tokens, and the right label should lose its lead. The authors cut them in all heads of a quarter of the
           layers, and compare with random links.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference, pattern_scores
from headatlas.lab.ablation import Patch, without_keys
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, labelled_texts

FAMILIES = {"reviews": "reviews", "topics": "topics", "questions": "questions"}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
TIMES = 5  # an even share of the attention, from which on a link counts


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Four labelled texts and a fifth; pairs lead from each label to the token before it."""
    return labelled_texts.labelled(vocab, rng, labelled_texts.TASKS[FAMILIES[family]])


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same with the fifth label, from which the pair leads."""
    return labelled_texts.with_its_label(task(vocab, family, rng))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether each head looks from the label at the token before it, and how often from other tokens does so."""
    return Scores(*pattern_scores(model, sample.prompts, links).swapaxes(0, 1))  # [prompt layer head] each


def links(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of pairs, and of null pairs, whose attention is more than 5/n: [2 layer head]."""
    each = (pattern[..., *np.transpose(pairs)] for pairs in (prompt.pairs, prompt.null_pairs))
    return np.stack(
        [np.where(np.isnan(weights), np.nan, weights > TIMES / len(prompt.tokens)).mean(-1) for weights in each]
    )


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What each head gives without the links from the forerunner tokens to their labels."""
    return without_keys(model, lambda prompt: prompt.pairs)
