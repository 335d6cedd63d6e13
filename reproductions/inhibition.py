"""Inhibition heads read that a name is a repeat, and tell the name movers to leave it out.

Claim      At the end of "When Mary and John went to the store, John gave a drink to" the head attends to the second
           mention of the subject and writes into the queries of the name movers, so that they look at the other name
           (wang2023interpretability).
Stimuli    Sentences with two people, one of them named again, in both orders and after a story. In the corrupted prompt
           three unrelated names stand in the same places.
Score      Path patching from the head at the end, from the corrupted prompt, into the queries of the name movers, with
           all other heads held: by what share of its mean the logit difference of the names falls. It is multiplied by
           the head's attention from the end to the second mention, which the authors report beside it: a head that
           brings the mover another signal is none. Name movers are found by both of the authors' tests, on sentences of
           their own, which are the same in every run; where there are none, nothing can feed them.
Control    The same from a sentence with the same names and another place and gift: nothing is repeated any less.
Behaviour  The logit of the right name (named once) minus that of the repeated name.
Cause      At the end the heads found give their mean over the ends of corrupted prompts: the right name should lose its
           lead.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import ZValues, mean_z
from headatlas.lab.attention import attention_on_pairs
from headatlas.lab.paths import Receiver, find_copying_movers, path_effects_from
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, indirect_object
from headatlas.stimuli.lexicon import NAMES

# The order of the two names and the one named again, and how many sentences of a story come before.
FAMILIES = {"ABBA": ("ABBA", 0), "BABA": ("BABA", 0), "after a story": ("ABBA", 1)}
BEHAVIOUR, POSITIONS = logit_difference, "last"
NEEDS_BEHAVIOUR, COST = True, "paths"
OWN = 8  # sentences per family to find name movers


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An indirect-object sentence; the pair leads from its end to the second mention of the subject."""
    return indirect_object.prompt(vocab, *FAMILIES[family], rng)


def name_movers(model: OpenModel) -> list[Head]:
    """The heads that copy names to the output of this model."""
    seeds = [(family, random.Random(f"{family}/{number}")) for family in FAMILIES for number in range(OWN)]
    own = [stimulus(model.vocabulary, *seed) for seed in seeds]
    names = [model.vocabulary.continuation(f" {name}")[0] for name in model.vocabulary.singles(NAMES)]
    return find_copying_movers(model, own, BEHAVIOUR, names)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that goes through the movers' queries, times the attention to the second mention."""
    prompts, receivers = sample.prompts, [Receiver(head, "q") for head in name_movers(model)]
    looks = attention_on_pairs(model, prompts)  # [prompt layer head]
    if not receivers:
        return Scores(0 * looks, 0 * looks)
    sources = (None, [prompt.alternatives["same names"] for prompt in prompts])
    found = path_effects_from(model, prompts, BEHAVIOUR, sources, receivers, "last")
    score, null = -found.effects / abs(found.clean.mean()) * looks
    return Scores(score, null)


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """The authors' knock-out: what each head gives on average at the end of a corrupted prompt."""
    return mean_z(model, [prompt.corrupted for prompt in sample.prompts], position=-1)
