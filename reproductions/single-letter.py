"""Single-letter heads favour one option letter, whatever the question is.

Claim      At the end of a multiple-choice question the head attends to one and the same letter (lieberum2023does;
           zheng2024attention); heads that always promote one letter are found in other models (wiegreffe2025answer).
           The variant that favours its letter only where that is right is not tested here.
Stimuli    Questions with four options: the right one was just told, is the color of a thing just seen, or answers a
           question about the world. For the score the letters A to D stand before the options in random order, so
           that letter, place and right option come apart; for the behaviour in their own order.
Score      From the last token, the attention to the head's favourite letter minus the mean of the three others. The
           favourite is the letter that it looks at most in all other prompts.
Control    The same at the same place with the letters exchanged, so that another letter stands there: what a head
           scores that goes by place, or by the right option.
Behaviour  How often the right letter has the largest logit of the four.
Cause      At the last token the heads found are replaced by their mean over the corrupted prompts: among the wrong
           letters, the largest logit should exceed their mean by less.
"""

import random

import numpy as np
from torch import Tensor

from headatlas.lab import OpenModel, Scores
from headatlas.lab.attention import pair_weights
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import aligned, first_usable, in_place, tokenize

FAMILIES = {"told": "told", "color just seen": "color", "fact of the world": "real"}


def lean(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """By how much the largest logit of the wrong letters exceeds their mean: [prompt]."""
    wrong = logits.float().gather(-1, rivals)  # [prompt readout rival]
    return (wrong.amax(-1) - wrong.mean(-1)).mean(-1)


BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, lean, "last"


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question with four options."""
    return aligned(vocab, lambda: multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family]))


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same with letters in random order, in the corrupted prompt in one where each stands elsewhere; pairs from A
    to D.
    """

    def draw() -> Prompt:
        case = multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family])
        spots = in_place(vocab, case)[1].at("letter")
        order, other = ([*multiple_choice_questions.LETTERS] for _ in range(2))
        rng.shuffle(order)
        while any(map(str.__eq__, order, other)):
            rng.shuffle(other)
        read, corrupted = (
            tokenize(vocab, multiple_choice_questions.relabelled(case.segments, each)).ids for each in (order, other)
        )
        pairs = tuple((len(read) - 1, spots[order.index(letter)]) for letter in multiple_choice_questions.LETTERS)
        return Prompt(read, corrupted, pairs)

    vocab.singles(multiple_choice_questions.LETTERS, at_least=4)
    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The lead of each head's favourite letter over the others: [prompt layer head]."""
    own, exchanged = (np.stack(pair_weights(model, sample.prompts, corrupted)) for corrupted in (False, True))
    favourite = (own.sum(0) - own).argmax(-1)[..., None]  # of [prompt layer head letter], without the prompt itself
    chosen = [(each.sum(-1), np.take_along_axis(each, favourite, -1)[..., 0]) for each in (own, exchanged)]
    score, null = (best - (total - best) / 3 for total, best in chosen)
    return Scores(score, null)
