"""Subject heads look at the thing asked about and raise what the model knows of it, whether or not it was asked for.

Claim      At the end of "The capital of France is" the head takes its part of the answer from the subject's tokens
           almost alone, and raises many attributes of the subject whatever the relation (chughtai2024summing).
Stimuli    Capitals, languages and continents of countries, asked for by these words in three ways. Each with two
           corrupted prompts: the same country asked for another attribute, and a country that shares none asked for the
           same.
Score      Direct logit attribution by source token: what the head writes from the subject's tokens into the logit of an
           attribute that is not asked for, against others of its kind; as a share of the mean size of the lead of the
           asked answer over all other answers. Heads count only where their effect on the asked answer comes from the
           subject's tokens at least ten times as much as from the relation's word. The paper's own ratio could not be
           read; ten is ours.
Control    The same attribute and the same attribution where the other country stands in the subject's place.
Behaviour  How often the right answer is likelier than all other capitals, languages and continents.
Cause      The paper's types rest on attribution. Here the last position of the heads found is patched from the other
           country: the lead of the right answer should fall.
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
    """An attribute of a country; corrupted, that of another country; "relation", another attribute of it."""
    return attributes.crossed(vocab, rng, FAMILIES[family], corrupted="subject", alternative="relation")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The part from the subject in an attribute not asked for, of heads that are pure: [prompt layer head]."""
    prompts = sample.prompts
    subject, relation = attributes.places(prompts)
    from_subject, from_relation = (direct_effects(model, prompts, keys).mean(0) for keys in (subject, relation))
    pure = from_subject >= RATIO * abs(from_relation)  # [layer head]
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()

    narrow = [attributes.among_kind(prompt) for prompt in prompts]
    unasked = [replace(prompt, tokens=prompt.alternatives["relation"]) for prompt in narrow]
    score = direct_effects(model, unasked, subject)
    null = direct_effects(model, narrow, subject, corrupted=True)
    return Scores(score / lead * pure, null / lead * pure)
