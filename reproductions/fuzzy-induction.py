"""Fuzzy induction heads complete a pattern whose first word only resembles the earlier one: [A][B] … [A'] -> [B].

Claim      At a word that did not occur before, the head attends to the token that followed a similar word, and copies
           it as an induction head does: only where it looks is fuzzy (luger2026headvis).
Stimuli    Five pairs of a word and an unrelated follower, then the followers again in another order, each after a word
           that is related to its first one: its opposite, its singular or plural, its present or past tense. In the
           corrupted prompt the words of the second part are related to none of the list. The authors looked at
           text; opposites are among the likenesses they saw, inflections are ours, and rhymes, other languages and
           places in a list are left out.
Score      The attention from each word of the second part to the follower of its relative, averaged over words.
Control    The same attention, between the same positions, in the corrupted prompt. A head that looks back by position,
           or at any follower, loses nothing; one that asks for the same word gains nothing.
Behaviour  The log-probability of the follower after the related word, minus the same in the corrupted prompt.
Cause      The heads found give what they gave on the corrupted prompt: the followers should become less likely. The
           authors trace what the head reads and writes, and do not ablate it.
"""

import random

from headatlas.lab import log_probability
from headatlas.stimuli import Prompt, Vocabulary, related_words

FAMILIES = {"opposites": "opposites", "plurals": "plurals", "past tenses": "past tenses"}
BEHAVIOUR, CONTRAST, EFFECT = log_probability, True, log_probability
PAIRS = 5


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Pairs of words that come back with a related first word."""
    return related_words.again(vocab, FAMILIES[family], PAIRS, rng)
