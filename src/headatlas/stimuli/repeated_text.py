"""Repeated texts, cut before a token that occurred earlier: the model is about to repeat it."""

import random

from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary


def begun_again(
    words: Vocabulary, first: tuple[int, ...], fresh: tuple[int, ...], unrelated: int, rng: random.Random
) -> Prompt:
    """A text and the beginning of its repetition, cut before a token that occurs once in the text.

    Pairs lead to that token, null pairs to another token of the text. In the corrupted prompt the first occurrence is
    replaced by another text. The rivals are `unrelated` tokens from elsewhere.

    Args:
        words: vocabulary of the model.
        first, fresh: the text, and the corrupted prompt's, of equal length.
        unrelated: number of rivals.
        rng: draws the cut and the rivals.
    """
    once = [place for place, token in enumerate(first) if first.count(token) == 1]
    cut = rng.choice([place for place in once if place >= 5])
    other = rng.choice([place for place in once if place != cut])
    read, corrupted = (words.bos + text + first[:cut] for text in (first, fresh))
    return read_before(words, read, corrupted, first[cut], first[other], unrelated, rng)


def read_before(
    words: Vocabulary,
    read: tuple[int, ...],
    corrupted: tuple[int, ...],
    answer: int,
    other: int,
    unrelated: int,
    rng: random.Random,
) -> Prompt:
    """A text cut before a token that occurs in it. Pairs lead to earlier occurrences of that token, null pairs to those
    of another token.
    """
    rivals = [token for token in words.draw(rng, 2 * unrelated) if token not in read][:unrelated]
    end = len(read) - 1
    to, instead = (tuple((end, place) for place in range(end) if read[place] == token) for token in (answer, other))
    return Prompt(read, corrupted, to, instead, (Readout(end, answer, tuple(rivals)),))
