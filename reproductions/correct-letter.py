"""Correct-letter heads look at the right option of a multiple-choice question and pass its letter on.

Claim      At the end of the question the head attends to the label of the right option, or to what closes that option,
           and writes its letter into the logits (lieberum2023does; tulchinskii2024listening; bick2025understanding).
Stimuli    Four options behind letters, in random order: the right one was just told, is the color of a thing just
           seen, or answers a question about the world. In the corrupted prompt the options stand in another order. No
           examples come before, and labels are A to D; the authors' MMLU prompts have five examples.
Score      Both halves of the definition in one number: what the head takes from the tokens of the right option and
           writes directly into the logit of its letter minus the others, as a share of the mean logit difference.
Control    The same at the same tokens of the corrupted prompt, where the same letter stands before a wrong option: a
           head that goes by place, or for one letter, scores there what it scores in the prompt.
Behaviour  How often the right letter has the largest logit of the four.
Cause      At the last token the heads found give what they give in the corrupted prompt, which has another right
           letter: the right letter should lose its lead over the others.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import first_usable, in_place

FAMILIES = {"told": "told", "color just seen": "color", "fact of the world": "real"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question; a head should look from its end at the right option, from the letter to the end of its text."""

    def draw() -> Prompt:
        case = multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family])
        drawn, places = in_place(vocab, case)
        right = multiple_choice_questions.LETTERS.index(case.answers[0].strip())
        option = range(places.at("letter")[right], places.at("option")[right] + 1)
        return replace(drawn, pairs=tuple((len(drawn.tokens) - 1, key) for key in option))

    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the logit difference that comes directly from each head's look at the right option."""
    prompts = sample.prompts
    whole = abs(metric_per_prompt(model, prompts, EFFECT).mean())
    keys = [[key for _, key in prompt.pairs] for prompt in prompts]
    score, null = (direct_effects(model, prompts, keys, corrupted) / whole for corrupted in (False, True))
    return Scores(score, null)
