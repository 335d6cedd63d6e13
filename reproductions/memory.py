"""Memory heads push towards what was learned in training where the text says something else.

Claim      In "The capital of France is Rome. The capital of France is", later heads of two opposed kinds decide between
           the two answers: memory heads favour Paris, context heads Rome (jin2024cutting; yu2023characterizing).
Stimuli    False claims about capitals and languages and the same statement again: alone, called a lie, or a mistake.
Score      The direct effect at the last position: the learned answer's logit minus the stated one's, of what the head
           writes (yu2023characterizing; ortu2024competition). It is a difference: a head that lowers both answers, the
           stated one more, counts as well (dotsinski2025generalizability).
Control    The same two answers, where another subject has another false answer: neither was said or asked for.
Behaviour  How often the learned answer is the likeliest of its kind once the stated one is left out: the model knows
           the fact. Which of the two wins is not asked; in GPT-2 small it is nearly always the stated one
           (ortu2024competition).
Cause      The heads found are replaced by their mean over the corrupted prompts: the learned answer should lose against
           the stated one. The paper prunes, and counts answers.
"""

import random
from dataclasses import replace

from torch import Tensor

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, facts
from headatlas.stimuli.cases import aligned

FAMILIES = {  # what stands before the claim
    "claimed": "",
    "called a lie": "It is a lie that",
    "called a mistake": "By mistake somebody said that",
}
RELATIONS = [facts.BY_NAME[name] for name in ("capital", "language")]


def known(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Share of prompts whose learned answer is ahead of all others but the stated one, which comes first of them."""
    return accuracy_among_rivals(logits, answers, rivals[..., 1:])


def learned_over_stated(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """The learned answer's logit minus the stated one's."""
    return logit_difference(logits, answers, rivals[..., :1])


BEHAVIOUR, EFFECT = known, learned_over_stated


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A false claim and the same statement again, up to its object."""
    return aligned(vocab, lambda: facts.false_claim("train", rng, rng.choice(RELATIONS), FAMILIES[family]))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes of the learned answer against the stated one: [prompt layer head], in nats."""
    prompts = [
        replace(prompt, readouts=(replace(read, rivals=read.rivals[:1]),))
        for prompt in sample.prompts
        for read in prompt.readouts
    ]
    return Scores(direct_effects(model, prompts), direct_effects(model, prompts, corrupted=True))
