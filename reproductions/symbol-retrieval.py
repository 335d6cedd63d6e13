"""Symbol retrieval heads write at the end the word that has the role that comes next.

Claim      After examples of an identity rule over arbitrary words (ABA or ABB), what the head gives at the last token
           is the word that fills the role that comes next: patched from a prompt after the same rule with another right
           word, it makes the model answer with that word (yang2025emergent, who call them retrieval heads).
Stimuli    Five triples of words after one rule, then two words, written with three kinds of marks, half of the prompts
           after each rule. In the corrupted prompt the last two words have changed places, so that the other one is
           right, in the same role. The paper takes ten examples of random tokens and only prompts that the model
           solves; here all count.
Score      The causal mediation score: the head is patched from the corrupted prompt at the last token; how much the
           lead of the right answer over the other word falls, as a share of the mean size of that lead.
Control    The same patched from a prompt after the other rule, in which the two words of every triple have changed
           places: the right answer is the same word in the other role. (The paper permutes the pairs of prompts.)
Behaviour  How often the right one of the two words is likelier.
Cause      The heads found are patched from the corrupted prompt at the last token: the right answer should lose its
           lead.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import patch_sweeps
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary
from headatlas.stimuli.identity_rules import triples

FAMILIES = {"carets": ("^", "\n"), "commas": (",", "."), "arrows": (" ->", ";")}  # between words, and after triples
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Triples after one rule; corrupted, another answer after the same rule."""
    return triples(vocab, rng, FAMILIES[family], corrupted="other question")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that falls with the word, and with the role, that comes next: [prompt layer head]."""
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["other rule"] for prompt in prompts])
    word, role = patch_sweeps(model, prompts, EFFECT, sources, "last")
    lead = abs(word.clean).mean()
    return Scores(-word.effect_per_prompt / lead, -role.effect_per_prompt / lead)
