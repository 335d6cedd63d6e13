"""Previous-token heads attend to the token right before the current one.

Claim      The head looks one token back, whatever the tokens are, and notes at each token which one came before it.
           Induction heads read that: without it they cannot tell the place after an earlier copy
           (olsson2022incontext; wang2023interpretability).
Stimuli    For the score, random tokens: natural text would mix in attention to punctuation and frequent words. For
           the behaviour, random tokens written two, three and four times.
Score      The mean attention from each token to the one before it.
Control    The mean attention from the same tokens to one random other token before them.
Behaviour  The log-probability of the next token in the later copies, minus the same where every copy is fresh: what
           the repetition is worth to the model.
Cause      The heads found are replaced by their mean: the repetition should be worth less. The authors remove the
           heads' pattern in models of two layers, and patch the paths from them to the keys of induction heads.
"""

import random

from headatlas.lab import log_probability
from headatlas.stimuli import Prompt, Vocabulary, repeats

FAMILIES = {"twice": (24, 2), "three times": (16, 3), "four times": (12, 4)}  # tokens, and how often they are written
LENGTH = 60
BEHAVIOUR = log_probability
CONTRAST = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Random tokens, all different; from the third on, so that there is another token to look at."""
    tokens = vocab.bos + vocab.draw(rng, LENGTH)
    queries = range(len(vocab.bos) + 2, len(tokens))
    return Prompt(
        tokens=tokens,
        corrupted=tokens,
        pairs=tuple((query, query - 1) for query in queries),
        null_pairs=tuple((query, rng.randrange(len(vocab.bos), query - 1)) for query in queries),
    )


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span of random tokens, written as many times as the family says."""
    return repeats.written(vocab, *FAMILIES[family], rng)
