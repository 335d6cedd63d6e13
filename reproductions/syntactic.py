"""Syntactic heads attend from a word to the one on which it depends, or that depends on it, wherever that stands.

Claim      For one relation, the head's largest weight at the one word falls on the other more often than a fixed
           distance would have it (voita2019analyzing; clark2019what).
Stimuli    Sentences with known dependencies and other words in between: "The old cup near the red box holds a key".
           A decoder looks back only: from the verb to its subject, from the object to its verb, and from a noun to its
           determiner, its preposition, and the noun that it belongs to.
Score      The share of pairs where the largest weight at the later word, the first token left out, falls on the
           earlier one; of the one relation in which the head is best, chosen on the other half of the prompts.
Control    The same for the most frequent distance of that relation, plus ten points: the paper's criterion.
Behaviour  Agreement across another noun: how often the verb of the right number has the larger logit.
Cause      The heads found are replaced by their mean over sentences whose subject has the other number: the right verb
           should lose its lead. The sources cut no single head; where training suppresses such attention, grammar
           suffers (chen2024sudden).
"""

import random
from collections import Counter
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference, record
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, grammar, stories
from headatlas.stimuli.cases import aligned

FAMILIES = {"alone": 0, "after a sentence": 1, "after three": 3}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
RELATIONS = ("nsubj", "obj", "det", "case", "nmod")
MARGIN = 0.1


def before(family: str, rng: random.Random) -> str:
    """The start of a story, of as many sentences as the family says."""
    return stories.story(FAMILIES[family], rng) if FAMILIES[family] else ""


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> grammar.Dependencies:
    """A sentence in which every relation occurs; pairs lead from the later to the earlier word."""
    return grammar.dependencies(vocab, rng, RELATIONS, before(family, rng))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A noun, another noun, and the verb that comes next; its rival is the same verb in the other number."""
    lead = before(family, rng)
    drawn = aligned(vocab, lambda: grammar.agreement("train", rng, lead))
    return replace(drawn, readouts=tuple(replace(each, rivals=each.rivals[:1]) for each in drawn.readouts))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Of each prompt and head, the hits in the relation that the other half of the prompts chose, and the corrupted
    prompt.
    """
    texts = [prompt for prompt in sample.prompts if isinstance(prompt, grammar.Dependencies)]
    far = {name: Counter(query - key for text in texts for query, key in text.of(name)) for name in RELATIONS}
    hits = np.empty((len(texts), len(RELATIONS), model.anatomy.layers, model.anatomy.heads))
    fixed = np.empty((len(texts), len(RELATIONS), 1, 1))
    for number, text in enumerate(texts):
        seen = record(model, [text.tokens], ["pattern"])
        rows = {layer: seen["pattern", layer][0, :, :, 1:].argmax(-1).cpu() + 1 for layer in model.anatomy.attention}
        largest = model.anatomy.stack(rows, 0).numpy()  # [layer head query]
        for relation, name in enumerate(RELATIONS):
            usual = far[name].most_common(1)[0][0]
            hits[number, relation] = np.mean([largest[..., query] == key for query, key in text.of(name)], 0)
            fixed[number, relation] = np.mean([query - key == usual for query, key in text.of(name)])
    score, null = np.empty((2, len(texts), *hits.shape[2:]))
    for half in (0, 1):
        mine, other = slice(half, None, 2), slice(1 - half, None, 2)
        best = (hits[other] - fixed[other]).mean(0).argmax(0)[None, None]  # [1 1 layer head]
        score[mine] = np.take_along_axis(hits[mine], best, 1)[:, 0]
        null[mine] = np.take_along_axis(np.broadcast_to(fixed[mine], hits[mine].shape), best, 1)[:, 0] + MARGIN
    return Scores(score, null)
