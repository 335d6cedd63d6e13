"""Attribute extraction heads look at the end of a question at a name, and read off the fact that was asked for.

Claim      From the last token the head attends to the last token of an entity's name, where earlier layers have
           gathered what is known of it, and its OV circuit maps that state to the attribute. The map of one head of
           Pythia-2.8B, with the unembedding of three sports, names the sport of 98% of athletes
           (rajamanoharan2023fact; geva2023dissecting).
Stimuli    Countries whose capital, language or continent is asked for in three ways, with three other answers of the
           same kind. In the corrupted prompt stands a country that shares no attribute. Few athletes are known to small
           models.
Score      The product of two halves. Whether the head's OV map, applied to the name's last token, gives the right
           answer a larger logit than the three others: a classifier read from weights, as in the source. And the
           attention from the end to that token. The source counts athletes for which the model is right; here all
           prompts count.
Control    The same in the corrupted prompt, for the same answers: a head that always names one place has as much there.
Behaviour  How often the right answer is likelier than the three others.
Cause      At the last token the heads found give what they give in the prompt with the other country, as the sources
           patch: the lead of the right answer should fall.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention import attention_on_pairs
from headatlas.lab.attribution import direct_effects_of_keys
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, attributes, facts
from headatlas.stimuli.cases import first_usable

FAMILIES = {
    "relation first": "The{relation} of{subject} is",
    "subject first": "In{subject} the{relation} is",
    "asked": "Question: What is the{relation} of{subject}? Answer:",
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
OTHERS = 3


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An attribute of a country; the pair leads from the end to the last token of its name."""
    vocab.singles(facts.COUNTRIES, at_least=8)

    def draw() -> Prompt:
        drawn = attributes.among_kind(attributes.crossed(vocab, rng, FAMILIES[family], corrupted="subject"))
        (read,), name = drawn.readouts, max(drawn.spans["subject"])
        if len(read.rivals) < OTHERS:
            raise UntestableError("too few answers of a kind begin with tokens of their own")
        asked = replace(read, rivals=tuple(rng.sample(read.rivals, OTHERS)), alike=None)
        return replace(drawn, pairs=((len(drawn.tokens) - 1, name),), null_pairs=(), readouts=(asked,))

    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether each head's map names the right answer, times its attention to the name: [prompt layer head]."""
    elsewhere = [replace(prompt, tokens=prompt.corrupted) for prompt in sample.prompts]
    score, null = (named(model, each) * attention_on_pairs(model, each) for each in (sample.prompts, elsewhere))
    return Scores(score, null)


def named(model: OpenModel, prompts: list[Prompt]) -> np.ndarray:
    """Whether the answer gets more from the name's last token than its rivals: [prompt layer head], 0 or 1."""
    asked = [
        replace(prompt, readouts=(Readout(read.position, token),))
        for prompt in prompts
        for read in prompt.readouts
        for token in (read.answer, *read.rivals)
    ]
    keys = [[key for _, key in prompt.pairs] for prompt in asked]
    given = direct_effects_of_keys(model, asked, [keys])[0]  # [prompt*candidate layer head]
    each = given.reshape(len(prompts), 1 + OTHERS, *given.shape[1:])
    hits: np.ndarray = (each[:, 0] > each[:, 1:].max(1)).astype(float)
    return np.where(np.isnan(each[:, 0]), np.nan, hits)
