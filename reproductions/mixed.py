"""Mixed heads look at the thing asked about and at what is asked, and add something from each to the answer.

Claim      At the end of "The capital of France is" the head makes two separate updates for Paris: one from the
           subject's tokens and one from the relation's words (chughtai2024summing).
Stimuli    Capitals, languages and continents of countries, asked for by these words in three ways. In the corrupted
           prompt another country, which shares no attribute, is asked for another attribute.
Score      Direct logit attribution by source token: the smaller of what the head writes from the subject's tokens and
           what it writes from the relation's word into the logit of the answer, against all other answers of the three
           kinds; as a share of the mean size of the lead of the answer over them. A head of one source has a smaller
           part of about zero.
Control    The same answer and the same attribution in the corrupted prompt, from its subject and its relation.
Behaviour  How often the right answer is likelier than all other capitals, languages and continents.
Cause      The paper's types rest on attribution. Here the last position of the heads found is patched from the
           corrupted prompt: the lead of the right answer should fall.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, attributes

FAMILIES = {
    "relation first": "The{relation} of{subject} is",
    "subject first": "In{subject} the{relation} is",
    "asked": "Question: What is the{relation} of{subject}? Answer:",
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An attribute of a country; the corrupted prompt is about another attribute of another country."""
    return attributes.crossed(vocab, rng, FAMILIES[family], corrupted="both")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The smaller of the parts from subject and relation, as a share of the answer's lead: [prompt layer head]."""
    prompts = sample.prompts
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()

    subject, relation = attributes.places(prompts)
    score, null = (
        np.minimum(*(direct_effects(model, prompts, keys, corrupted) for keys in (subject, relation)))
        for corrupted in (False, True)
    )
    return Scores(score / lead, null / lead)
