"""Amplification heads raise further the answer letter that already leads.

Claim      Near the end of a multiple-choice prompt, when the letter is decided, the head takes up its signal and makes
           it stronger (lieberum2023does; zheng2024attention). No criterion of the authors could be read; the test is
           that of the definition here: with the signal replaced, the head must raise the other letter.
Stimuli    Four options behind letters: the right one was just told, is the color of a thing just seen, or answers a
           question about the world. In the corrupted prompt the options are moved by one place, so another letter is
           right.
Score      The stream that enters the head's layer at the last token is that of the corrupted prompt, all before it the
           prompt's: what the head writes directly into the logit of the corrupted prompt's letter minus the prompt's,
           as a share of the mean logit difference of the two. A head that finds the letter among the options keeps to
           the prompt's.
Control    The same direct effect in the untouched prompt.
Behaviour  How often the right letter has the largest logit of the four.
Cause      At the last token the heads found are replaced by their mean over the corrupted prompts: the right letter's
           lead over the others should shrink.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects, direct_effects_with_patched_input
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import aligned

FAMILIES = {"told": "told", "color just seen": "color", "fact of the world": "real"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question with four options."""
    return aligned(vocab, lambda: multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family]))


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same, read for the letter that is right in the corrupted prompt, the one before, against the letter that is
    right.
    """
    drawn = task(vocab, family, rng)
    letters = [vocab.continuation(f" {letter}")[0] for letter in multiple_choice_questions.LETTERS]
    own = drawn.readouts[-1]
    corrupted = letters[letters.index(own.answer) - 1]
    return replace(drawn, readouts=(Readout(own.position, corrupted, (own.answer,)),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How far each head goes over to the other letter with the stream, as a share of the logit difference."""
    whole = abs(metric_per_prompt(model, sample.prompts, logit_difference).mean())
    return Scores(
        direct_effects_with_patched_input(model, sample.prompts) / whole, direct_effects(model, sample.prompts) / whole
    )
