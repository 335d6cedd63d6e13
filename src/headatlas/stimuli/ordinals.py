"""Ordered classes of words: what follows Monday, seven or March."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from headatlas.stimuli.lexicon import NAMES

OrdinalItem = TypeVar("OrdinalItem")

_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"

CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "numbers": tuple(str(n) for n in range(1, 61)),
        "number words": tuple(_WORDS.split()),
        "ordinal words": tuple("first second third fourth fifth sixth seventh eighth ninth tenth".split()),
        "days": tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
        "months": tuple(
            "January February March April May June July August September October November December".split()
        ),
        "letters": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "roman numerals": tuple(_ROMAN.split()),
    }
)

# Text between neighbours. The answer never follows its predecessor directly, so a model must fetch the predecessor
# by attention instead of reading it off the last token.
SEPARATORS: tuple[str, ...] = (",", " then", " and then", ";", " ->", " before")
OPENINGS: tuple[str, ...] = ("Order:", "Count:", "List:", "So:", "Next:", "The order is")


def run(members: Sequence[str], length: int, rng: random.Random) -> list[str]:
    """Draw `length` consecutive members of an ordered class, from a random start."""
    if not 2 <= length <= len(members):
        raise ValueError(f"a run of {length} needs 2 to {len(members)} members")
    start = rng.randrange(len(members) - length + 1)
    return list(members[start : start + length])


# Text before and after the member.
FRAMES: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "numbers": ((" has number", "."), (" sat in seat", "."), (" lives in house", ".")),
        "number words": ((" has number", "."), (" came home at", ".")),
        "ordinal words": ((" was the", " one."), (" came in the", " week.")),
        "days": ((" comes on", "."), (" works on", " morning.")),
        "months": ((" was born in", "."), (" travels in", ".")),
        "letters": ((" lives in block", "."), (" took part", ".")),
        "roman numerals": ((" read chapter", "."), (" took part", ".")),
    }
)


def separated(name: str, runs: Sequence[Sequence[str]], rng: random.Random) -> list[str]:
    """Write each run of members with the same separator, also at the end: 'Order: one, two, three,'."""
    opening, separator = rng.choice(OPENINGS), rng.choice(SEPARATORS)
    return [opening + "".join(f" {word}{separator}" for word in words) for words in runs]


def in_sentences(name: str, runs: Sequence[Sequence[str]], rng: random.Random) -> list[str]:
    """Write each run as sentences about different people, ending before the next member."""
    before, after = rng.choice(FRAMES[name])
    people = rng.sample(NAMES, len(runs[0]) + 1)
    return [
        "".join(f"{person}{before} {word}{after} " for person, word in zip(people, words, strict=False))
        + f"{people[-1]}{before}"
        for words in runs
    ]


def shuffled(items: Sequence[OrdinalItem], rng: random.Random) -> list[OrdinalItem]:
    """Shuffle the items so that none is followed by its original successor."""
    if len(items) < 3:
        raise ValueError("two items have no order without their old neighbours but the reverse; give three or more")
    following = set(itertools.pairwise(items))
    while True:
        order = rng.sample(list(items), len(items))
        if following.isdisjoint(itertools.pairwise(order)):
            return order


def longest_stretch(members: Sequence[str], usable: Callable[[str], object | None]) -> tuple[str, ...]:
    """The longest run of consecutive members that are all usable; on ties, the first."""
    best: list[str] = []
    current: list[str] = []
    for member in members:
        current = [*current, member] if usable(member) is not None else []
        best = current if len(current) > len(best) else best
    return tuple(best)
