"""Backup name movers copy the right name once the name movers are switched off.

Claim      With the name movers knocked out, other heads that did little before write the indirect object into the
           logits, so that the model loses little of its lead (wang2023interpretability).
Stimuli    Sentences with two people, one of them named again, in both orders and after a story. In the corrupted prompt
           three unrelated names stand in the same places.
Score      With the name movers giving their mean over the ends of corrupted prompts, as in the paper: what each head
           writes directly into the logit difference of the names, less what it wrote before (or less nothing, where it
           wrote against it: a negative head that suppresses less is no backup), as a share of the intact mean. The
           direct effect is attributed, not path-patched, which costs two passes. The final norm is not frozen, as in
           the paper: a head gains a little where the norm has less to divide by (rushing2024explorations).
Control    The same gain where as many other heads of the same layers are knocked out, averaged over five such sets.
Behaviour  The logit of the right name (named once) minus that of the repeated name.
Cause      With the name movers out throughout, the heads found give their mean over the ends of corrupted prompts too:
           the right name should lose its lead. The intact model would show little, by the claim itself.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.ablation import ZValues, mean_z
from headatlas.lab.attribution import direct_effects_without
from headatlas.lab.paths import find_copying_movers
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, matched_sets
from headatlas.stimuli import Prompt, Vocabulary, indirect_object
from headatlas.stimuli.lexicon import NAMES

# The order of the two names and the one named again, and how many sentences of a story come before.
FAMILIES = {"ABBA": ("ABBA", 0), "BABA": ("BABA", 0), "after a story": ("ABBA", 1)}
BEHAVIOUR, POSITIONS = logit_difference, "last"
NEEDS_BEHAVIOUR, COST = True, "paths"
OWN, SETS = 8, 5  # sentences per family to find name movers; random sets for the null


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An indirect-object sentence with its corrupted prompt."""
    return indirect_object.prompt(vocab, *FAMILIES[family], rng)


def silenced(model: OpenModel) -> list[Head]:
    """The name movers of this model, found by both of the authors' tests on sentences of their own."""
    seeds = [(family, random.Random(f"{family}/{number}")) for family in FAMILIES for number in range(OWN)]
    own = [stimulus(model.vocabulary, *seed) for seed in seeds]
    names = [model.vocabulary.continuation(f" {name}")[0] for name in model.vocabulary.singles(NAMES)]
    return find_copying_movers(model, own, BEHAVIOUR, names)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head gains in direct effect without the name movers, and without others: [prompt layer head]."""
    prompts, out = sample.prompts, silenced(model)
    whole = abs(metric_per_prompt(model, prompts, BEHAVIOUR).mean())
    others = matched_sets(out, model.anatomy.all_heads, seed=0, count=SETS).sets if out else []
    before, *after = direct_effects_without(model, prompts, [(), out, *others] if others else [()])
    if not others:
        return Scores(0 * before, 0 * before)
    score, *null = ((each - before.clip(min=0)) / whole for each in after)
    return Scores(score, np.mean(null, 0))


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """The authors' knock-out: what each head gives on average at the end of a corrupted prompt."""
    return mean_z(model, [prompt.corrupted for prompt in sample.prompts], position=-1)
