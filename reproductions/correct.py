"""Correct heads raise whichever answer letter is the right one.

Claim      Late in a model that answers multiple-choice questions, single heads write the right letter, whether that is
           A or B; others write the same letter always, or one letter only where it is right (wiegreffe2025answer).
Stimuli    Two options behind A and B: the right one was just told, is the color of a thing just seen, or answers a
           question about the world. In the corrupted prompt the options are exchanged. The authors put three examples
           first.
Score      The output of each head at the last position, read through the final norm and the unembedding: probability
           of the right letter minus that of the other, in the prompt or the corrupted prompt, whichever is less. So a
           head must raise the right letter in both. Whether the authors apply the norm is not known.
Control    The less of the two where the letter that is right in the prompt counts as right in the corrupted prompt too:
           what a head scores that knows its letter and not the question.
Behaviour  How often the right letter has the larger logit of the two.
Cause      At the last token the heads found are replaced by their mean over the corrupted prompts: the right letter
           should lose its lead. The authors ablate no heads.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import head_logit_lens
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import aligned

FAMILIES = {"told": "told", "color just seen": "color", "fact of the world": "real"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question with two options; in the corrupted prompt they are exchanged, so that the other letter is right."""
    return aligned(vocab, lambda: multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family], count=2))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """By how much each head's output prefers the right letter in both orders: [prompt layer head]."""
    own, other = (head_logit_lens(model, sample.prompts, corrupted) for corrupted in (False, True))
    return Scores(np.minimum(own, -other), np.minimum(own, other))
