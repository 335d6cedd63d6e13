"""Context heads push towards what the text says where training has taught something else.

Claim      In "The capital of France is Rome. The capital of France is", later heads of two opposed kinds decide between
           the two answers: context heads favour Rome, memory heads Paris (jin2024cutting; yu2023characterizing). The
           attention falls on the stated answer.
Stimuli    False claims about capitals and languages and the same statement again, in three wordings. The repeat is word
           for word, so induction is enough to find the answer (dotsinski2025generalizability).
Score      The direct effect at the last position: the stated answer's logit minus the learned one's, of what the head
           writes (yu2023characterizing; ortu2024competition).
Control    The same two answers, where another subject has another false answer: neither was said or asked for.
Behaviour  How often the stated answer is the likeliest of its kind, and the learned one likelier than the others are on
           average: without knowledge there is no conflict.
Cause      The heads found are replaced by their mean over the corrupted prompts: the stated answer should lose against
           the learned one. The paper prunes, and counts answers.
"""

import random
from dataclasses import replace

from torch import Tensor

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, facts
from headatlas.stimuli.cases import Case, aligned

FAMILIES = {  # how a capital is stated; languages are stated in their wording of the same place
    "plain": "The capital of{subject} is",
    "turned": "In{subject} the capital is",
    "third": "The capital city of{subject} is",
}
RELATIONS = [facts.BY_NAME[name] for name in ("capital", "language")]


def in_conflict(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """1 where the stated answer comes first, and the learned one, the first rival, is ahead of the mean of the rest."""
    known = logit_difference(logits, rivals[..., 0], rivals[..., 1:]) > 0
    return accuracy_among_rivals(logits, answers, rivals) * known


def stated_over_learned(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """The stated answer's logit minus the learned one's."""
    return logit_difference(logits, answers, rivals[..., :1])


BEHAVIOUR, EFFECT = in_conflict, stated_over_learned


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A false claim and the same statement again, up to its object; the stated answer is right."""

    def draw() -> Case:
        case = facts.false_claim("train", rng, rng.choice(RELATIONS), like=FAMILIES[family])
        return replace(case, answers=case.rivals[:1], rivals=case.answers + case.rivals[1:])

    return aligned(vocab, draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes of the stated answer against the learned one: [prompt layer head], in nats."""
    prompts = [
        replace(prompt, readouts=(replace(read, rivals=read.rivals[:1]),))
        for prompt in sample.prompts
        for read in prompt.readouts
    ]
    return Scores(direct_effects(model, prompts), direct_effects(model, prompts, corrupted=True))
