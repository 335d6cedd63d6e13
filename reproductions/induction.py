"""Induction heads complete a repeated pattern: [A][B] … [A] -> [B].

Claim      At a token that occurred before, the head attends to the token that followed it then, and makes that the
           likely next one (olsson2022incontext; elhage2021mathematical).
Stimuli    Random tokens, so that nothing but the repetition can be used: 50 tokens written twice, 25 tokens written
           four times (olsson2022incontext), and 12 tokens written eight times. For behaviour and cause, which take
           many runs, a third as long.
Score      Prefix matching: from each token of a later copy, the attention to the tokens that followed its earlier
           occurrences, summed over them.
Control    The same attention, between the same positions, where every copy is fresh random tokens.
Behaviour  How often the most likely next token is the right one, in the later copies.
Cause      The heads found are replaced by their mean over the corrupted prompts: without them the copying should stop.
"""

import random

from headatlas.lab import accuracy
from headatlas.stimuli import Prompt, Vocabulary, repeats

FAMILIES = {"twice": (50, 2), "four times": (25, 4), "eight times": (12, 8)}  # tokens, and how often they are written
SHORTER = 3
BEHAVIOUR = accuracy


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span of random tokens, written as many times as the family says."""
    return repeats.written(vocab, *FAMILIES[family], rng)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same, shorter."""
    length, copies = FAMILIES[family]
    return repeats.written(vocab, length // SHORTER, copies, rng)
