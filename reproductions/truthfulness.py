"""Truthfulness heads know whether a claim is true, and pushing them along that knowledge makes answers truer.

Claim      A linear probe on the head's output at the end of a claim tells true from false; moving the best heads from
           false to true while the model answers makes it prefer the true answer (li2023inferencetime).
Stimuli    Claims about countries and things in three wordings, half of them false: "The capital of France is Rome".
           For the behaviour, the same facts asked: "Question: What is the capital of France? Answer:".
Score      Held-out accuracy of a logistic probe on the head's z at the last token, two-fold, no subject on both sides.
Control    The same with labels shuffled within the design.
Behaviour  How often the right answer has a larger logit than all other answers of its kind.
Cause      Inference-time intervention: while the model answers, five standard deviations along the mean difference of
           true and false claims are added to z of the heads found. The logit of the right answer should rise.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference, probe_heads
from headatlas.lab.ablation import ZValues
from headatlas.lab.fits import collect_z, mean_difference
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import ProbeLabel, Prompt, Vocabulary, facts, probe_groups, probe_labels
from headatlas.stimuli.cases import aligned, tokenize

FAMILIES = {  # how a capital is claimed and asked for; other relations have their wordings of the same places
    "plain": ("The capital of{subject} is{object}", "What is the capital of{subject}?"),
    "turned": ("In{subject} the capital is{object}", "Which city is the capital of{subject}?"),
    "third": ("{object} is the capital of{subject}", "In{subject}, which city is the capital?"),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
STRENGTH = 5.0
REAL = [relation for relation in facts.RELATIONS if relation.real]


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A claim up to its last word, labelled with whether it is true."""
    claim, _ = FAMILIES[family]
    case = facts.true_or_false("train", rng, rng.choice(REAL), claim, stated=False)
    last = next(place for place, part in reversed(list(enumerate(case.segments))) if part.role in ("object", "subject"))
    read = tokenize(vocab, case.segments[: last + 1]).ids
    subject = next(part.text for part in case.segments if part.role == "subject")
    return Prompt(read, read, probe=ProbeLabel(int(case.answers[0] == " true"), subject))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question about a fact."""
    _, question = FAMILIES[family]
    return aligned(vocab, lambda: facts.question("train", rng, rng.choice(REAL), question))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Whether each claim was classified right when its subject was held out: [prompt layer head]."""
    prompts = sample.prompts
    z = collect_z(model, [prompt.tokens for prompt in prompts])
    found = probe_heads(z, probe_labels(prompts), probe_groups(prompts))
    return Scores(found.right.numpy(), found.right_shuffled.numpy())


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """Some standard deviations from false to true, for every head."""
    z = collect_z(model, [prompt.tokens for prompt in sample.prompts])
    found = mean_difference(z, probe_labels(sample.prompts))
    steps = STRENGTH * found.spread[..., None] * found.vectors  # [layer head d_head]
    return ZValues.of_heads(model.anatomy, steps, added=True)
