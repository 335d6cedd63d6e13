"""Duplicate-token heads attend from a token to its earlier copy.

Claim      At the second mention of a name the head attends to the first mention; later heads use the signal to rule
           the repeated name out as the indirect object (wang2023interpretability).
Stimuli    For the score, 50 random tokens written twice. For the behaviour, sentences with two people, one of them
           named again, in both orders and after a story: "When Mary and John went to the store, John gave a drink to".
Score      The mean attention from each token of the second copy to the same token in the first.
Control    The same attention, between the same positions, where the second half is fresh random tokens.
Behaviour  The logit of the right name (named once) minus that of the repeated name.
Cause      The heads found read the same sentence with three unrelated names instead, so that nothing is repeated:
           the right name should lose its lead. The corrupted prompt sentence is the authors' corrupted distribution.
"""

import random

from headatlas.lab import logit_difference
from headatlas.stimuli import Prompt, Vocabulary, indirect_object

# The order of the two names and the one named again, and how many sentences of a story come before.
FAMILIES = {"ABBA": ("ABBA", 0), "BABA": ("BABA", 0), "after a story": ("ABBA", 1)}
LENGTH = 50
BEHAVIOUR = logit_difference


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Random tokens, written twice."""
    span, fresh = vocab.draw(rng, LENGTH), vocab.draw(rng, LENGTH)
    start = len(vocab.bos)
    second = range(start + LENGTH, start + 2 * LENGTH)
    return Prompt(
        tokens=vocab.bos + span + span,
        corrupted=vocab.bos + span + fresh,
        pairs=tuple((query, query - LENGTH) for query in second),
    )


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An indirect-object sentence whose names are single tokens, so that the corrupted prompt aligns with it."""
    return indirect_object.prompt(vocab, *FAMILIES[family], rng)
