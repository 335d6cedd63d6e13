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

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention import attention_on_pairs
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, categories

FAMILIES = {"in a row": "", "with commas": ",", "joined by and": " and"}
BEHAVIOUR = logit_difference


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Four words of each of four kinds, one of them twice, in any order."""
    return categories.mixed(vocab, FAMILIES[family], rng)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Five words of one kind, and another that could follow."""
    return categories.of_one(vocab, FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Attention within the kind, less that to the word itself or to other kinds: [prompt layer head]."""
    kind = {token: number for number, each in enumerate(categories.tokens(model.vocabulary)) for token in each}

    def dealt(prompt: Prompt, number: int) -> dict[int, int]:
        mine = sorted({token for token in prompt.tokens if token in kind})
        return dict(zip(mine, random.Random(number).sample([kind[token] for token in mine], len(mine)), strict=True))

    anew = [dealt(prompt, number) for number, prompt in enumerate(sample.prompts)]
    asked = [
        categories.paired(prompt, kinds, which)
        for given in ([kind] * len(anew), anew)
        for which in ("like", "itself", "unlike")
        for prompt, kinds in zip(sample.prompts, given, strict=True)
    ]
    looks = attention_on_pairs(model, asked)  # of the same prompts, six times
    like, itself, unlike, *others = np.split(looks, 6)
    return Scores(like - np.maximum(itself, unlike), others[0] - np.maximum(*others[1:]))
