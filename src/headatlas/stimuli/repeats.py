"""Repeated random tokens, in which nothing but the repetition helps prediction."""

import random

from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary


def written(words: Vocabulary, length: int, copies: int, rng: random.Random) -> Prompt:
    """A span of random tokens, written `copies` times. In the corrupted prompt every copy is fresh random tokens.

    Pairs lead from each token of a later copy to the tokens that followed its earlier occurrences; readouts ask for the
    next token there.
    """
    span = words.draw(rng, length)
    fresh = tuple(token for _ in range(copies) for token in words.draw(rng, length))
    start = len(words.bos)
    later = range(start + length, start + length * copies - 1)  # the last token has no successor
    return Prompt(
        tokens=words.bos + span * copies,
        corrupted=words.bos + fresh,
        pairs=tuple((query, key + 1) for query in later for key in range(query - length, start - 1, -length)),
        readouts=tuple(Readout(query, answer=span[(query - start + 1) % length]) for query in later),
    )
