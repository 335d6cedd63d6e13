"""Name mover heads look from the end of a sentence at a name, and make the model say it.

Claim      In "When Mary and John went to the store, John gave a drink to", the head attends from the end to the name
           that other heads have not ruled out, and writes it into the logits (wang2023interpretability).
Stimuli    Sentences with two people, one of them named again, in both orders and after a story. In the corrupted prompt
           three unrelated names stand in the same places.
Score      The product of the paper's two tests. The direct effect: path patching from the head to the logits, from the
           corrupted prompt, with all other heads held; by what share of its mean the logit difference of the names
           falls. And the copying score: for which share of the names in the prompts the name is among the five
           likeliest that the head's OV circuit writes. The paper reads names in the state after the first MLP; here a
           head reads them in the stream of its own layer, which is what it has.
Control    The same from a sentence with the same names and another place and gift: nothing about names changes.
Behaviour  The logit of the right name (named once) minus that of the repeated name.
Cause      The heads found are replaced by their mean over the corrupted prompts: the right name should lose its lead.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.paths import path_effects_from
from headatlas.lab.weights import copying_in_prompts, places_of
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, indirect_object
from headatlas.stimuli.lexicon import NAMES

# The order of the two names and the one named again, and how many sentences of a story come before.
FAMILIES = {"ABBA": ("ABBA", 0), "BABA": ("BABA", 0), "after a story": ("ABBA", 1)}
BEHAVIOUR = logit_difference
NEEDS_BEHAVIOUR, COST = True, "paths"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An indirect-object sentence, with its corrupted prompt and its alternative; all names are single tokens, so that
    they align.
    """
    return indirect_object.prompt(vocab, *FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the mean logit difference that each head's direct path carries, times its copying score."""
    prompts, sources = sample.prompts, (None, [prompt.alternatives["same names"] for prompt in sample.prompts])
    names = [model.vocabulary.continuation(f" {name}")[0] for name in model.vocabulary.singles(NAMES)]
    copying = copying_in_prompts(model, prompts, places_of(prompts, names)).copying.numpy()  # [layer head]
    found = path_effects_from(model, prompts, BEHAVIOUR, sources, factor=copying)
    score, null = -found.effects / abs(found.clean.mean())
    return Scores(score, null)
