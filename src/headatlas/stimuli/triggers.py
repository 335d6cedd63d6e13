"""Trigger tokens, each followed by the same successor throughout one text, and by another in the next text.

After bietti2023birth: only an earlier occurrence tells what follows a trigger.
"""

import random
import string
from functools import cache

from headatlas.stimuli.cases import Segment
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

LETTERS: tuple[str, ...] = (*string.ascii_letters, *string.digits, "!", "?", "&")  # 65, as in the paper
LENGTH, TIMES = 40, 3


def prompt(words: Vocabulary, count: int, rng: random.Random) -> Prompt:
    """`count` triggers among random tokens, three times each, with readouts where a successor occurs again.

    The corrupted prompt is random tokens only.
    """
    drawn = words.draw(rng, 2 * count)
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True)) * TIMES
    others = [token for token in words.draw(rng, LENGTH) if token not in drawn]
    pieces: list[tuple[int, ...]] = [*pairs, *((token,) for token in others[: LENGTH - 2 * len(pairs)])]
    rng.shuffle(pieces)
    tokens, readouts, seen = list(words.bos), [], set()
    for piece in pieces:
        if len(piece) == 2 and piece[0] in seen:
            readouts.append(Readout(len(tokens), piece[1]))
        seen.add(piece[0])
        tokens += piece
    corrupted = words.bos + words.draw(rng, len(tokens) - len(words.bos))
    return Prompt(tokens=tuple(tokens), corrupted=corrupted, readouts=tuple(readouts))


def document(rng: random.Random, count: int = 5, length: int = 100) -> list[Segment]:
    """Letters drawn from fixed bigram odds, except that each of `count` triggers is followed by its successor.

    Frequent letters are more often triggers. A successor is known from its second occurrence on.
    """
    triggers: list[str] = []
    while len(triggers) < count:
        (drawn,) = rng.choices(LETTERS, _ranks("letters"))
        if drawn not in triggers:
            triggers.append(drawn)
    others = [letter for letter in LETTERS if letter not in triggers]
    successors = dict(zip(triggers, rng.choices(others, k=count), strict=True))
    letter, seen = rng.choice(LETTERS), set()
    made = [Segment(f" {letter}")]
    while len(made) < length:
        known = letter in successors and letter in seen
        seen.add(letter)
        letter = successors[letter] if letter in successors else rng.choices(LETTERS, _odds(letter))[0]
        made.append(Segment(f" {letter}", known=known))
    return made


@cache
def _ranks(of: str) -> list[float]:
    """Unigram odds of every letter: few are frequent, most are rare, as in text."""
    return [1.0 / rank for rank in random.Random(of).sample(range(1, len(LETTERS) + 1), len(LETTERS))]


@cache
def _odds(letter: str) -> list[float]:
    """Odds of each letter after this one: frequent letters are likelier, and every letter has its favourites."""
    return [plain * own for plain, own in zip(_ranks("letters"), _ranks(f"after {letter}"), strict=True)]
