"""Symbol abstraction heads write, where a pattern repeats a word, which of the words before it is repeated.

Claim      After examples of an identity rule over arbitrary words (ABA or ABB), what the head gives at the third words
           is their role, A or B, and not the word: patched from a prompt in which the same words have the other role,
           it makes the model answer with the word of the other role (yang2025emergent).
Stimuli    Five triples of words after one rule, then two words, written with three kinds of marks, half of the prompts
           after each rule. In the corrupted prompt the two words of every triple have changed places and the rule is
           the other one, so that the third words are the same. The paper takes ten examples of random tokens and only
           prompts that the model solves; here all count.
Score      The causal mediation score: the head is patched from the corrupted prompt at the third words of all examples;
           how much the lead of the right answer over the other word falls, as a share of the mean size of that lead.
           Exact for the heads whose first-order estimate is largest; the others are taken to have none.
Control    The same patched from a prompt after the same rule, in which the two words of every example have changed
           places: the third words are others in the same role. (The paper permutes the pairs of prompts.)
Behaviour  How often the right one of the two words is likelier.
Cause      The heads found are patched from the corrupted prompt at the third words: the right answer should lose its
           lead.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, attribution_patching, logit_difference
from headatlas.lab.ablation import patch_sweeps
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary
from headatlas.stimuli.identity_rules import triples

FAMILIES = {"carets": ("^", "\n"), "commas": (",", "."), "arrows": (" ->", ";")}  # between words, and after triples
BEHAVIOUR, EFFECT, NEEDS_BEHAVIOUR = accuracy_among_rivals, logit_difference, True
POSITIONS = (-30, -24, -18, -12, -6)  # of the third words
EXACT = 24  # heads that are measured exactly


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Triples after one rule; corrupted, the same third words after the other rule."""
    return triples(vocab, rng, FAMILIES[family], corrupted="other rule")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that falls with the role, and with the words, of the third words: [prompt layer head]."""
    prompts = sample.prompts
    estimate = abs(attribution_patching(model, prompts, EFFECT, "resample", POSITIONS).estimate.mean(-1))
    heads = sorted(model.anatomy.all_heads, key=lambda head: -estimate[head])[:EXACT]
    sources = (None, [prompt.alternatives["other examples"] for prompt in prompts])
    swept = patch_sweeps(model, prompts, EFFECT, sources, POSITIONS, heads=heads)
    lead = abs(swept[0].clean).mean()
    role, words = (np.nan_to_num(-each.effect_per_prompt / lead) + 0 * estimate for each in swept)
    return Scores(role, words)  # NaN remains for heads that do not exist, as in the estimate
