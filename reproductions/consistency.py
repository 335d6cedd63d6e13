"""Consistency heads know that a question was asked before in other words, and help to answer it as before.

Claim      On some heads it depends whether questions of equal meaning get equal answers; a bias added to their output
           along a direction for consistency makes a model more consistent (yang2024enhancing). How heads are scored
           there could not be read; the score below is ours.
Stimuli    Two people are asked about, one thing of each, and answers made up; then a question in other words. Half of
           these mean the same as one before. The others join a person and a thing that both came before, but not
           together, so that to see either come back is of no use.
Score      Held-out accuracy, two-fold, of a logistic probe on the head's z before the last answer: did the question
           come before?
Control    The same with labels shuffled.
Behaviour  How often the answer given before is likelier than the one given to the other question, where the last
           question means the same as one before. Nothing that a model has learned can tell it the answer.
Cause      While the model answers, five standard deviations along the mean difference between questions that came
           before and others are added to z of the heads found. The lead of the answer given before should grow.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, probe_heads
from headatlas.lab.ablation import ZValues
from headatlas.lab.fits import collect_z, mean_difference
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import ProbeLabel, Prompt, Vocabulary, paraphrases, probe_labels
from headatlas.stimuli.cases import aligned

FIRST, SECOND, THIRD = (  # how a secret is asked for; other things are asked for in their wording of the same place
    "What is the secret of{subject}?",
    "What secret does{subject} have?",
    "For{subject}, what is the secret?",
)
FAMILIES = {
    "first wording, then second": (FIRST, SECOND),
    "second, then third": (SECOND, THIRD),
    "third, then first": (THIRD, FIRST),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
STRENGTH = 5.0


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three questions, labelled with whether the last means the same as one before."""
    same = rng.random() < 0.5
    return replace(asked(vocab, family, rng, same), probe=ProbeLabel(int(same)))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three questions, the last of which means the same as one before."""
    return asked(vocab, family, rng, same=True)


def asked(vocab: Vocabulary, family: str, rng: random.Random, same: bool) -> Prompt:
    """Two questions with their answers and a third; the corrupted prompt is the prompt itself."""
    return aligned(vocab, lambda: paraphrases.asked_again(rng, *FAMILIES[family], same))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether it was told of each prompt, when it was held out, that the question came before: [prompt layer head]."""
    z = collect_z(model, [prompt.tokens for prompt in sample.prompts])
    found = probe_heads(z, probe_labels(sample.prompts), range(len(sample.prompts)))
    return Scores(found.right.numpy(), found.right_shuffled.numpy())


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """Some standard deviations towards questions that came before, for every head."""
    found = mean_difference(
        collect_z(model, [prompt.tokens for prompt in sample.prompts]), probe_labels(sample.prompts)
    )
    steps = STRENGTH * found.spread[..., None] * found.vectors  # [layer head d_head]
    return ZValues.of_heads(model.anatomy, steps, added=True)
