"""Previous-token heads attend to the token right before the current one.

Claim      The head looks one token back, whatever the tokens are, and so brings the previous token's identity to
           where later heads can read it (olsson2022incontext; wang2023interpretability).
Stimuli    For the score, random tokens: natural text would mix in attention to punctuation and frequent words. For
           the behaviour, little stories.
Score      The mean attention from each token to the one before it.
Control    The mean attention from the same tokens to one random other token before them.
Behaviour  The log-probability of a story's next token, minus the same where only the token before the current one
           was swapped for another token of the story: what that one token is worth to the model.
Cause      The heads found are replaced by their mean: without them that one token should be worth less.
"""

import random

from headatlas.lab import log_probability
from headatlas.stimuli import Prompt, Readout, Vocabulary, stories

FAMILIES = {"early in a story": 20, "in the middle": 35, "late in a story": 50}
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
    """A story, cut as the family says; in the corrupted prompt only the token before the last one is another."""
    last = FAMILIES[family] - 1
    story = vocab.encode(stories.story(12, rng))[: last + 2]
    other = rng.choice([token for token in story if token != story[last - 1]])
    start = len(vocab.bos)
    return Prompt(
        tokens=vocab.bos + story[: last + 1],
        corrupted=vocab.bos + story[: last - 1] + (other, story[last]),
        readouts=(Readout(start + last, answer=story[last + 1]),),
    )
