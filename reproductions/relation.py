"""Relation heads look at the word for what is asked and raise all answers of that kind, whatever the subject.

Claim      At the end of "The capital of France is" the head takes its part of the answer from the relation's word
           almost alone, and raises many members of the category, true of the subject or not (chughtai2024summing).
Stimuli    Capitals, languages and continents of countries, asked for by these words in three ways. Each with two
           corrupted prompts: a country that shares no attribute asked for the same, and the same country asked for
           another attribute.
Score      Direct logit attribution by source token: what the head writes from the relation's word, where the other
           country is asked about, into the logit of a member of the category that is false of it, against answers of
           other kinds; as a share of the mean size of the lead of the right answer over all other answers. Heads count
           only where their effect on the right answer comes from the relation's word at least ten times as much as from
           the subject's tokens. The paper's own ratio could not be read; ten is ours.
Control    The same member and the same attribution where another relation stands in the place.
Behaviour  How often the right answer is likelier than all other capitals, languages and continents.
Cause      The paper's types rest on attribution. Here the last position of the heads found is patched from the other
           relation: the lead of the right answer should fall. (Patched from another subject little should change.)
"""

import random
from dataclasses import replace

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
RATIO = 10  # of the two parts, from which on a head is of one type


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An attribute of a country; corrupted, another attribute of it; "subject", that of another country."""
    return attributes.crossed(vocab, rng, FAMILIES[family], corrupted="relation", alternative="subject")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The part from the relation in a false member of the category, of heads that are pure: [prompt layer head]."""
    prompts = sample.prompts
    subject, relation = attributes.places(prompts)
    from_subject, from_relation = (direct_effects(model, prompts, keys).mean(0) for keys in (subject, relation))
    pure = from_relation >= RATIO * abs(from_subject)  # [layer head]
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()

    narrow = [attributes.among_others(prompt) for prompt in prompts]
    elsewhere = [replace(prompt, tokens=prompt.alternatives["subject"]) for prompt in narrow]
    score = direct_effects(model, elsewhere, relation)
    null = direct_effects(model, narrow, relation, corrupted=True)
    return Scores(score / lead * pure, null / lead * pure)
