"""Past-tense heads make the past form of a verb the next word where the sentence is about the past.

Claim      Where English needs the past form of a verb that was just given, one head writes past forms, beside a copy
           head that writes the verb itself; in Chinese, which has no such form, it is mostly inactive (zhang2025same).
Stimuli    A verb in the present and the beginning of a sentence about yesterday or last week: "Today I walk, yesterday
           I". Three wordings. In the corrupted prompt one word differs, and the sentence is about the present.
Score      The direct effect at the last position: the logit of the past form minus that of the verb itself, of what the
           head writes; as a share of the size of this difference in prompt and corrupted prompt together. The authors
           read a head by the tokens that it favours, and count how often it is kept in the information flow graph of
           a prediction; the threshold of the graph could not be read.
Control    The same two words in the corrupted prompt: a head that favours past forms whatever is asked for has as much
           there. The authors compare with Chinese prompts of the same meaning, which many models cannot read.
Behaviour  How often the past form has a larger logit than the verb itself.
Cause      At the last token the heads found give what they give in the corrupted prompt: the past form should lose its
           lead. What the authors do to the head itself could not be read.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, past_forms
from headatlas.stimuli.cases import aligned

FAMILIES = {"today and yesterday": "today", "every day": "every day", "most weeks": "most weeks"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A verb, and a sentence about the past that needs its past form."""
    return aligned(vocab, lambda: past_forms.past_form(vocab, rng, past_forms.FRAMES[FAMILIES[family]]))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes for the past form, in units of both logit differences: [prompt layer head]."""
    lead, fall = (metric_per_prompt(model, sample.prompts, EFFECT, contrast) for contrast in (False, True))  # [prompt]
    whole = abs(lead).mean() + abs(lead - fall).mean()
    score, null = (direct_effects(model, sample.prompts, corrupted=present) for present in (False, True))
    return Scores(score / whole, null / whole)
