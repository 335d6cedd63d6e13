"""Knowledge-retention heads change their attention while a model learns new tasks, and the old ones suffer from it.

Claim      While a model is trained on one task after another, the importance of a head is the mean squared change of
           its attention weights times the sensitivity of the loss to them; tying the attention of the most important
           heads to what it was keeps the model from forgetting (he2024seekr).
Stimuli    Three tasks, learned in turn by a copy of the model: made-up facts about countries and things. For behaviour
           and cause, true facts of the same form. The authors train models of 7 billion parameters on the eight tasks
           of a benchmark for one epoch and more.
Score      The authors' importance, by the released code: after each task the mean squared change of the head's
           attention weights on the task's prompts over the training on it, times the mean squared gradient of the loss
           with respect to these weights, divided by the sum over the layer. Divided by its mean over heads, as tasks
           and models differ in size. They keep the 24 best of 32 layers, then an eighth of all heads, and store other
           examples than most of those they train on; here the model is trained on few, and on these.
Control    The same, by the same mean, where each weight matrix moved as far in a random direction: a head whose
           attention changes with any change of the weights has as much there.
Behaviour  How often the model, before it learns anything new, finds the right answer likelier than all others of its
           kind.
Cause      Not the authors' own, which trains a model with the attention tied. The heads found attend, in the model as
           it was, as they do in the copy that has learned the three tasks: the old answers should lose their lead, by
           more than with the drift of as many other heads.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import Patch, attending_as
from headatlas.lab.fits import Retention, learn_in_turn
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, new_facts

FAMILIES = {"colors of countries": "capital", "meals of countries": "language", "gifts": "kind"}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
COST = "training"
STEPS, RATE = 6, 3e-4  # of each task


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A made-up fact, to be learned."""
    return new_facts.to_learn(vocab, rng, new_facts.NEW_FACTS[FAMILIES[family]])


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A true fact of the same form, to be remembered."""
    return new_facts.known(vocab, rng, new_facts.NEW_FACTS[FAMILIES[family]])


def learned(model: OpenModel, sample: PromptSample) -> Retention:
    """What a copy of the model learns from the prompts, one family after another."""
    families = list(dict.fromkeys(sample.families))
    tasks = [[sample.prompts[number] for number in sample.of_family(family)] for family in families]
    return learn_in_turn(model, tasks, steps=STEPS, rate=RATE)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The importance of each head over that of the mean head, learned and at random: [prompt layer head]."""
    found = learned(model, sample)
    order = np.argsort([number for family in dict.fromkeys(sample.families) for number in sample.of_family(family)])
    means = [np.nanmean(each) or 1.0 for each in found.importance]
    score, null = (
        np.concatenate([each / mean for each, mean in zip(part, means, strict=True)])[order]
        for part in (found.importance, found.chance)
    )
    return Scores(score, null)


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What each head gives where it attends as after learning."""
    return attending_as(model, learned(model, sample).model)
