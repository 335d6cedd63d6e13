"""Accuracy heads are those where training for a task sets in: scaling or shifting them makes its answers more accurate.

Claim      With a scaling vector learned for every head on the training set of a task, the heads that it changes most
           are those to tune; offsets at these few heads raise accuracy (yin2024lofit; guo2024steering).
Stimuli    Claims about countries and things in three wordings, to be judged true or false. Each is used with its
           corrupted prompt, the claim of the other truth, so that to favour one judgement gains nothing.
Score      Scaling vectors of all heads are learned on an eighth of the pairs (the unit) as in the paper: Adam, an L1
           penalty of 0.0005, five passes. What a head's vector alone then adds to the log-probability of the right
           answer on the other pairs, to first order, as a share of what all add. The paper ranks by the vectors' norm.
Control    The same with vectors learned where in half of the pairs, drawn at random, the wrong judgement is taught.
Behaviour  How often the right one of the two judgements has the larger logit: above chance, so that there is a task.
Cause      Offsets of all heads are learned on the prompts that select heads. Added at the heads found, on other
           prompts, they should raise the right judgement. (The paper learns those of the selected heads alone.)
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import ZValues
from headatlas.lab.fits.lofit import learn_each, learn_vectors, scaling_slopes
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, UntestableError, Vocabulary, facts
from headatlas.stimuli.cases import aligned

FAMILIES = {  # how a capital is claimed; other relations are claimed in their wording of the same place
    "plain": "The capital of{subject} is{object}",
    "turned": "In{subject} the capital is{object}",
    "third": "{object} is the capital of{subject}",
}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
COST = "training"
PENALTY, PARTS = 5e-4, 8
REAL = [relation for relation in facts.RELATIONS if relation.real]


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A claim and the question whether it is true."""
    return aligned(vocab, lambda: facts.true_or_false("train", rng, rng.choice(REAL), FAMILIES[family], stated=False))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of each head in what scaling adds where it was not learned: [learning layer head]."""
    prompts, rng = sample.prompts, random.Random(sample.split)
    if (parts := min(PARTS, len(prompts) // 2)) < 2:  # of two prompts at least, to exchange half of each
        raise UntestableError("too few prompts to learn from some and to measure on others")
    slopes = sum(scaling_slopes(model, each) for each in (prompts, corrupted(prompts)))  # [pair layer head d_head]
    right = [prompts[part::parts] for part in range(parts)]
    guessed = []  # half of them taught wrong
    for mine in right:
        wrong = rng.sample(range(len(mine)), len(mine) // 2)
        guessed.append([exchanged(each) if number in wrong else each for number, each in enumerate(mine)])
    taught = [[*each, *corrupted(each)] for each in (*right, *guessed)]
    scaling = learn_each(model, taught, "scaling", l1=PENALTY).numpy()  # [learning layer head d_head]
    others = [np.delete(slopes, range(part, len(prompts), parts), axis=0).mean(0) for part in range(parts)]
    score, null = np.split((np.array(2 * others) * scaling).sum(-1), 2)
    return Scores(score / abs(score.mean(0)).sum(), null / abs(score.mean(0)).sum(), per="token")


def edit(model: OpenModel, sample: PromptSample) -> ZValues:
    """An offset for every head, all learned together."""
    learned = learn_vectors(model, [*sample.prompts, *corrupted(sample.prompts)], "offset")
    return ZValues.of_heads(model.anatomy, learned, added=True)


def corrupted(prompts: list[Prompt]) -> list[Prompt]:
    """The claims of the other truth, with the other judgement."""
    return [exchanged(replace(prompt, tokens=prompt.corrupted, corrupted=prompt.tokens)) for prompt in prompts]


def exchanged(prompt: Prompt) -> Prompt:
    """The same, with the wrong judgement for the right one."""
    return replace(prompt, readouts=tuple(replace(r, answer=r.rivals[0], rivals=(r.answer,)) for r in prompt.readouts))
