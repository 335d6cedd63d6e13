"""Long words that a tokenizer splits: the pieces must be put together before the word means anything."""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli.cases import Case, Split, in_split, segments

LONG: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "animal": tuple(
            """
            rhinoceros hippopotamus chimpanzee velociraptor salamander chameleon armadillo wolverine porcupine
            grasshopper woodpecker nightingale hummingbird dromedary crocodile orangutan barracuda tarantula
            """.split()
        ),
        "food": tuple(
            """
            cauliflower asparagus artichoke pomegranate blackberry gingerbread marshmallow spaghetti mozzarella
            tangerine watermelon butternut cantaloupe cranberry horseradish persimmon pumpernickel quesadilla
            """.split()
        ),
        "tool": tuple(
            """
            screwdriver sledgehammer wheelbarrow pitchfork corkscrew thermometer microscope sandpaper
            tweezers lawnmower crowbar spirograph protractor stethoscope
            """.split()
        ),
    }
)
FRAMES: tuple[str, ...] = (
    "The{word} is a kind of",
    "A{word} counts as",
    "Every{word} is some",
    "What we call{word} is a sort of",
)


def long_word(split: Split, rng: random.Random) -> Case:
    """What kind of thing a long word names. The twin is a word of another kind, without regard to its length."""
    frame = rng.choice(FRAMES)
    while True:
        kind = rng.choice(list(LONG))
        word = rng.choice(LONG[kind])
        if in_split(split, frame, word):
            break
    before, after = frame.split("{word}")
    return Case(
        segments(before, (f" {word}", "word"), after),
        (f" {kind}",),
        tuple(f" {other}" for other in LONG if other != kind),
    )
