"""Gender-bias heads tie a pronoun to the person whose occupation goes with its stereotypical gender.

Claim      In "The nurse examined the farmer because she" the heads' attention from the pronoun makes continuations that
           fit the nurse likelier; given the attention that they have after "he", continuations that fit the farmer gain
           (vig2020investigating).
Stimuli    Sentences with a mostly female and a mostly male occupation in both orders, cut after the pronoun, in three
           wordings. In the corrupted prompt the pronoun is swapped. The authors take Winobias and Winogender, and
           continuations of several words; here the word after the pronoun is a verb, which alone is read.
Score      The natural indirect effect of the paper: the head alone gets the attention that it has in the corrupted
           prompt, at the pronoun; by what factor, less one, the odds turn to the word that fits the other person.
Control    The same in the sentence where both occupations go with the same gender, so that the pronoun favours nobody.
Behaviour  The log odds of the word that fits the pronoun's stereotype and that which fits the other person, minus the
           same in the corrupted prompt.
Cause      The heads found together get the attention of the corrupted prompt: the word that fits the stereotype should
           lose its lead.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference, sweep
from headatlas.lab.ablation import Patch, with_corrupted_patterns
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, occupations
from headatlas.stimuli.cases import first_usable

FAMILIES = {
    "because": "The{one}{did} the{other} because{pronoun}",
    "yesterday": "Yesterday the{one}{did} the{other}, because{pronoun}",
    "at the office": "At the office the{one}{did} the{other} after all, as{pronoun}",
}
BEHAVIOUR, CONTRAST, EFFECT, POSITIONS = logit_difference, True, logit_difference, "last"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A sentence cut after its pronoun, with its corrupted prompt and its alternatives."""
    return first_usable(lambda: occupations.prompt(vocab, FAMILIES[family], rng))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The indirect effect of each head where the pronoun favours somebody, and where not: [prompt layer head]."""
    alike = [
        replace(each, tokens=each.alternatives["alike"], corrupted=each.alternatives["alike, corrupted"])
        for each in sample.prompts
    ]
    patch = with_corrupted_patterns(model)
    swept = (sweep(model, prompts, EFFECT, patch, "last") for prompts in (sample.prompts, alike))
    score, null = (np.exp(-each.effect_per_prompt) - 1 for each in swept)
    return Scores(score, null)


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """The attention of the corrupted prompt, for every head."""
    return with_corrupted_patterns(model)
