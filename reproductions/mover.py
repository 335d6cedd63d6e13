"""Mover heads fetch what a fact is about from its place, and bring it to where the answer comes next.

Claim      In "The official language of France is" a head attends from the last token to the subject and carries it, or
           an attribute of it, to the last token; without the head other answers of the right kind gain
           (yao2024knowledge; lv2024interpreting).
Stimuli    Facts of the real world, stated up to the object in five ways, so that the subject stands at many distances.
           In the corrupted prompt the same way tells of another subject.
Score      By what share of its mean size the lead of the right answer, over all others of its kind, falls where the
           head alone gives at the last token what it gave on the corrupted prompt; times its attention from there to
           the subject. Neither asks whether the subject or its attribute is moved, on which the studies differ. They
           take heads from circuits of single facts, found by zero ablation of edges; many facts and a patched head
           stand in for that.
Control    The same fall, times the attention, on the corrupted prompt, to the place where the subject stands in another
           wording: a head that looks back by a fixed number of tokens gains nothing.
Behaviour  How often the right answer has a larger logit than all others of its kind.
Cause      At the last token the heads found give their mean over the ends of corrupted prompts: the right answer should
           lose.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, attention_scores, logit_difference, sweep
from headatlas.lab.ablation import ZValues, mean_z
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, facts
from headatlas.stimuli.cases import with_pairs

FAMILIES = {"capitals": "capital", "languages": "language", "kinds": "kind"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A fact up to its object; the pairs lead to the subject, in the corrupted prompt to as far back as another wording
    has it.

    Both wordings are drawn alike, so that over many prompts each distance is the subject's as often as the corrupted
    prompt's.
    """

    def state() -> Prompt:
        return with_pairs(vocab, lambda: facts.statement("train", rng, facts.BY_NAME[FAMILIES[family]]), "subject")

    def back(prompt: Prompt) -> int:
        return len(prompt.tokens) - 1 - prompt.pairs[-1][1]

    read, other = state(), state()
    room = min(len(read.tokens), len(other.tokens)) - 1 - len(vocab.bos)
    while back(read) == back(other) or max(back(read), back(other)) > room:
        read, other = state(), state()
        room = min(len(read.tokens), len(other.tokens)) - 1 - len(vocab.bos)
    end = len(read.tokens) - 1
    return replace(read, null_pairs=((end, end - back(other)),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that hangs on what the head alone brings, times its attention: [prompt layer head]."""
    swept = sweep(model, sample.prompts, EFFECT, "resample", "last")
    falls = -swept.effect_per_prompt / abs(swept.clean).mean()
    looks = attention_scores(model, sample.prompts)
    return Scores(falls * looks.score, falls * looks.null)


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """What each head gives on average at the end of a corrupted prompt, about whatever subject."""
    return mean_z(model, [prompt.corrupted for prompt in sample.prompts], position=-1)
