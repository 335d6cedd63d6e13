"""Long words and names that tokenizers split, so that a model must combine the pieces to know the meaning."""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli.cases import Case, Partition, in_partition, segments

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


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


# Names of two words; the first word has several possible continuations.
NAMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "place": _names(
            """
            New York, New Zealand, New Delhi, New Orleans, New Jersey, New Mexico, South Africa, South Korea,
            South Carolina, South Dakota, North Korea, North Carolina, North Dakota, San Francisco, San Diego,
            San Antonio, Santa Barbara, Santa Monica, West Virginia, Red Sea, Dead Sea, Black Forest
            """
        ),
        "person": _names(
            """
            John Lennon, John Locke, John Milton, George Orwell, George Washington, George Harrison, Charles Darwin,
            Charles Dickens, Charles Babbage, Isaac Newton, James Joyce, James Cook, James Watt, James Madison,
            Thomas Edison, Thomas Jefferson, Thomas Hobbes, William Shakespeare, William Blake, Henry Ford, Adam Smith,
            Paul Simon, Paul McCartney, David Hume, David Bowie, Michael Faraday, Michael Jackson, Robert Frost,
            Robert Schumann
            """
        ),
    }
)
FRAMES: tuple[str, ...] = (
    "The{word} is a kind of",
    "A{word} counts as",
    "Every{word} is some",
    "What we call{word} is a sort of",
)


def long_word(split: Partition, rng: random.Random) -> Case:
    """The kind of thing that a long word names. There is no corrupted prompt."""
    frame = rng.choice(FRAMES)
    while True:
        kind = rng.choice(list(LONG))
        word = rng.choice(LONG[kind])
        if in_partition(split, frame, word):
            break
    before, after = frame.split("{word}")
    return Case(
        segments(before, (f" {word}", "word"), after),
        (f" {kind}",),
        tuple(f" {other}" for other in LONG if other != kind),
    )
