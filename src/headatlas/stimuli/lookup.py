"""Retrieval over a distance: a value by its key, a needle in a haystack, the only rare word of a text."""

import random
from collections.abc import Sequence

from headatlas.stimuli import stories
from headatlas.stimuli.cases import Case, Partition, Segment, of_partition, segments
from headatlas.stimuli.lexicon import NAMES, PLACES, THINGS

ARROWS: tuple[str, ...] = (":", " is", " ->", " =")
RARE: tuple[str, ...] = tuple(
    """
    thistle gusset tundra quartz cobalt sonnet turret zephyr ember nectar parsley walrus otter yacht kayak sphinx
    comet fjord glacier lagoon canyon delta geyser basin prairie meadow cliff dune reef cove harbor chapel abbey
    vault cellar attic ladder anchor rudder lantern goblet chalice scepter amulet pendant brooch tiara satchel
    quiver saddle bridle harness anvil chisel mallet trowel sickle scythe lute harp fiddle bugle cymbal
    """.split()
)


def key_value(split: Partition, rng: random.Random, pairs: int | None = None, arrow: str | None = None) -> Case:
    """A list of key-value pairs, then some of the keys again, each to be answered with its value.

    The corrupted prompt asks for the same keys, but its list pairs them with other values. `arrow` is the text between
    key and value.
    """
    pairs = pairs or rng.randint(2, 6)
    keys = rng.sample(of_partition(split, rng.choice((THINGS, NAMES)), "key"), pairs)
    values = rng.sample([word for word in (*THINGS, *PLACES) if word not in keys], pairs)
    arrow, between = arrow or rng.choice(ARROWS), rng.choice((",", ";", "."))
    asked = rng.sample(range(pairs), rng.randint(1, min(3, pairs)))
    moved = [*values[1:], values[0]]

    def listing(right: list[str]) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for key, value in zip(keys, right, strict=True):
            made += segments((f" {key}", "key"), arrow, (f" {value}", "value"), between)
        for number in asked[:-1]:
            made += [
                Segment(f" {keys[number]}", role="asked"),
                Segment(arrow),
                Segment(f" {right[number]}", known=True, role="fetched"),
                Segment(between),
            ]
        return (*made, *segments((f" {keys[asked[-1]]}", "query"), arrow))

    right = values[asked[-1]]
    rivals = tuple(f" {value}" for value in values if value != right)
    return Case(listing(values), (f" {right}",), rivals, listing(moved), between)


NEEDLES: tuple[tuple[str, str], ...] = (
    ("The secret of{owner} is", "What is the secret of{owner}?"),
    ("{owner} hid in the box:", "What did{owner} hide in the box?"),
    ("The best gift for{owner} is", "What is the best gift for{owner}?"),
    ("The password of{owner} is", "What is the password of{owner}?"),
)


def needle(split: Partition, rng: random.Random, filler: int | None = None, words: int | None = None) -> Case:
    """A story containing a sentence that tells a few words (the needle), and a question for them at the end.

    The answer repeats the words in order. The corrupted prompt tells other words in the same place.
    """
    filler = rng.randint(1, 5) if filler is None else filler
    count = words or rng.randint(1, 4)
    owners = of_partition(split, NAMES, "needle")
    owner = rng.choice(owners)
    sentences = stories.sentences(filler, rng, [name for name in owners if name != owner])
    place = rng.randint(0, len(sentences))
    tell, ask = rng.choice(NEEDLES)
    drawn = rng.sample(THINGS, 2 * count)
    told, other = drawn[:count], drawn[count:]

    def write(what: list[str]) -> tuple[Segment, ...]:
        before, after = tell.split("{owner}")
        first, last = ask.split("{owner}")
        return (
            *segments(*((sentence, "filler") for sentence in sentences[:place])),
            *segments(f" {before}" if before else "", (f" {owner}", "owner"), after),
            *(Segment(f" {word}", role="needle") for word in what),
            *segments(".", *((sentence, "filler") for sentence in sentences[place:])),
            *segments(" Question:", f" {first}", (f" {owner}", "asked"), last, " Answer:"),
            *(Segment(f" {word}", known=True, role="copied") for word in what[:-1]),
        )

    return Case(write(told), (f" {told[-1]}",), (f" {other[-1]}",), write(other))


def rare_word(
    split: Partition,
    rng: random.Random,
    before: int | None = None,
    after: int | None = None,
    names: Sequence[str] = NAMES,
    rare: Sequence[str] = RARE,
) -> Case:
    """Plain sentences with one rare word, and a question for it at the end. The corrupted prompt has another rare word.

    `before` and `after` are the numbers of sentences before and after the one with the rare word.
    """
    first, second = rng.sample(of_partition(split, rare, "rare"), 2)
    ahead_of_it = stories.sentences(rng.randint(0, 2) if before is None else before, rng, names)
    behind_it = stories.sentences(rng.randint(0, 2) if after is None else after, rng, names)
    frame = rng.choice((" Near the{rare} it was quiet.", " They saw a{rare} there.", " It was like a{rare} to them."))
    ask = rng.choice((" The rare word is", " The strange word here was", " One word was new:"))
    ahead, behind = frame.split("{rare}")

    def write(word: str) -> tuple[Segment, ...]:
        return segments(*ahead_of_it, ahead, (f" {word}", "rare"), behind, *behind_it, ask)

    return Case(write(first), (f" {first}",), (f" {second}",), write(second))
