"""Global retrieval heads are the few that look across the whole text, found by their gaze at earlier copies.

Claim      Heads that attend to earlier copies of the current token (echo), or to what followed these (induction), need
           the whole text; all others get by with the first tokens and a recent window (tang2024razorattention).
Stimuli    For the score, random tokens written four times, in three lengths; 100 tokens at most, where the authors'
           company takes 10,000. For the behaviour, a needle in a story, at three distances.
Score      Echo and induction scores added up: from each token of a later copy, the attention to the same token in the
           earlier copies and to the tokens after those. The authors keep the best by a budget, here a threshold
           decides; each query head is judged by itself.
Control    The same attention, between the same positions, where every copy is fresh random tokens.
Behaviour  How often the words that the needle told are the likeliest next tokens.
Cause      As in the authors' cache: the heads found see nothing but the first token and a window of the last eight.
           The words of the needle should become less likely, and more so than where other heads are cut short.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from headatlas.lab import OpenModel, accuracy, log_probability
from headatlas.lab.ablation import Patch, without_keys
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, lookup, repeats
from headatlas.stimuli.cases import aligned

FAMILIES = {"near": (12, 1), "farther": (18, 3), "far": (25, 5)}  # tokens of a copy, sentences around the needle
BEHAVIOUR, EFFECT = accuracy, log_probability
COPIES, WORDS, WINDOW = 4, 2, 8


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Random tokens written four times; pairs lead to earlier copies and to the tokens after them."""
    drawn = repeats.written(vocab, FAMILIES[family][0], COPIES, rng)
    echo = tuple((query, after - 1) for query, after in drawn.pairs)
    return replace(drawn, pairs=drawn.pairs + echo)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story with a needle, the question for it, and the answer up to its last word."""
    return aligned(vocab, lambda: lookup.needle("held-out", rng, FAMILIES[family][1], WORDS))


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What heads write when they see the first token and a recent window only."""
    return without_keys(model, beyond)


def beyond(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """Every key behind the window but the first."""
    return ((query, key) for query in range(len(prompt.tokens)) for key in range(1, query - WINDOW + 1))
