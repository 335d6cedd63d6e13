"""Negative name movers look at the name that the model is about to say, and argue against it.

Claim      In "When Mary and John went to the store, John gave a drink to" the head attends from the end to the indirect
           object and lowers its logit; its output-value circuit writes against names in general
           (wang2023interpretability; mcdougall2024copy).
Stimuli    Sentences with two people, one of them named again, in both orders and after a story. In the corrupted prompt
           three unrelated names stand in the same places.
Score      The product of the paper's two tests. The direct effect: path patching from the head to the logits, from the
           corrupted prompt, with all other heads held; by what share of its mean the logit difference of the names
           rises. And the negative copying score: for which share of the names in the prompts the name is among the
           five least likely that the head's OV circuit writes. The paper reads names in the state after the first MLP;
           here a head reads them in the stream of its own layer, which is what it has.
Control    The same from a sentence with the same names and another place and gift: nothing about names changes.
Behaviour  The logit of the right name (named once) minus that of the repeated name.
Cause      At the end the heads found give their mean over the ends of corrupted prompts: the right name should gain.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import ZValues, mean_z
from headatlas.lab.paths import path_effects_from
from headatlas.lab.weights import copying_in_prompts, places_of
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, indirect_object
from headatlas.stimuli.lexicon import NAMES

# The order of the two names and the one named again, and how many sentences of a story come before.
FAMILIES = {"ABBA": ("ABBA", 0), "BABA": ("BABA", 0), "after a story": ("ABBA", 1)}
BEHAVIOUR, POSITIONS = logit_difference, "last"
NEEDS_BEHAVIOUR, COST = True, "paths"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An indirect-object sentence, with its corrupted prompt and its alternative."""
    return indirect_object.prompt(vocab, *FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that each head's direct path takes away, times its negative copying score."""
    prompts = sample.prompts
    names = [model.vocabulary.continuation(f" {name}")[0] for name in model.vocabulary.singles(NAMES)]
    against = copying_in_prompts(model, prompts, places_of(prompts, names)).suppression.numpy()  # [layer head]
    sources = (None, [prompt.alternatives["same names"] for prompt in prompts])
    found = path_effects_from(model, prompts, BEHAVIOUR, sources, factor=against)
    score, null = found.effects / abs(found.clean.mean())
    return Scores(score, null)


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """The authors' knock-out: what each head gives on average at the end of a corrupted prompt."""
    return mean_z(model, [prompt.corrupted for prompt in sample.prompts], position=-1)
