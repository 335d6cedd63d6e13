"""Simple children's stories, which any English model can partly predict."""

import random
from collections.abc import Sequence

from headatlas.stimuli.lexicon import COLORS, FEELINGS, NAMES, PLACES, QUALITIES, THINGS, VERB_OBJECTS
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary


def article(noun: str) -> str:
    """The indefinite article of a noun: 'a' or 'an'."""
    return "an" if noun[0] in "aeiou" else "a"


def _sentence(name: str, friend: str, pronoun: str, rng: random.Random) -> str:
    verb, objects = rng.choice(list(VERB_OBJECTS.items()))
    noun, thing, place = rng.choice(objects), rng.choice(THINGS), rng.choice(PLACES)
    color, quality, feeling = rng.choice(COLORS), rng.choice(QUALITIES), rng.choice(FEELINGS)
    return rng.choice(
        (
            f" {name} went to the {place}.",
            f" {pronoun} {verb} {article(noun)} {noun}.",
            f" {name} {verb} the {noun}.",
            f" {pronoun} was very {feeling}.",
            f" {name} was {feeling} because {pronoun.lower()} had a {quality} {thing}.",
            f" There was a {color} {thing} in the {place}.",
            f" {name} and {friend} were good friends.",
            f' "Look at the {color} {thing}," said {friend}.',
            f' "I want to go to the {place}," said {name}.',
            f" {pronoun} saw a {quality} {thing} near the {place}.",
            f" {name} liked to play with {friend}.",
            f" Then {pronoun.lower()} {verb} the {noun} again.",
            f" {friend} gave {name} a {color} {thing}.",
            f" The {thing} was {quality} and {color}.",
            f" In the end {name} was {feeling} and went home.",
        )
    )


def sentences(count: int, rng: random.Random, names: Sequence[str] = NAMES) -> list[str]:
    """`count` sentences about one person and a friend, each with a leading space."""
    name, friend = rng.sample(list(names), 2)
    pronoun = rng.choice(("He", "She"))
    return [_sentence(name, friend, pronoun, rng) for _ in range(count)]


def story(sentences: int, rng: random.Random, names: Sequence[str] = NAMES) -> str:
    """A story of `sentences` sentences about one person and a friend."""
    name, friend = rng.sample(list(names), 2)
    pronoun = rng.choice(("He", "She"))
    opening = rng.choice(
        (
            f" Once upon a time there was a {rng.choice(QUALITIES)} {rng.choice(THINGS)}.",
            f" One day {name} was in the {rng.choice(PLACES)}.",
            f" {name} had a friend. The friend was called {friend}.",
            f" Once there lived {'a boy' if pronoun == 'He' else 'a girl'} called {name}.",
        )
    )
    rest = "".join(_sentence(name, friend, pronoun, rng) for _ in range(sentences - 1))
    return (opening + rest).lstrip()


def opening(words: Vocabulary, length: int, rng: random.Random, readouts: int = 8) -> Prompt:
    """The beginning of a story, `length` tokens including BOS, with readouts at the last `readouts` positions.

    The corrupted prompt has the same tokens in another order.
    """
    count = length - len(words.bos)
    told = words.encode(story(length // 5 + 1, rng))[: count + 1]  # no sentence has fewer than five tokens
    tokens = words.bos + told[:count]
    return Prompt(
        tokens=tokens,
        corrupted=words.bos + tuple(rng.sample(told[:count], count)),
        readouts=tuple(Readout(place, (*tokens, told[count])[place + 1]) for place in range(length - readouts, length)),
    )


def listing(length: int, repeat: float, rng: random.Random, words: Sequence[str]) -> list[tuple[str, bool]]:
    """A row of `length` words, each with whether it occurred earlier; words repeat with probability `repeat`."""
    seen: list[str] = []
    row: list[tuple[str, bool]] = []
    for _ in range(length):
        again = bool(seen) and rng.random() < repeat
        word = rng.choice(seen) if again else rng.choice([w for w in words if w not in seen])
        row.append((f" {word}", again))
        if not again:
            seen.append(word)
    return row
