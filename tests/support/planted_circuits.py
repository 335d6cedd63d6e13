"""Circuits written into the weights of small models by hand: which heads do what is known."""

import functools
import itertools
import random
import re
import string
from collections.abc import Callable, Iterable

from headatlas.notation import Head
from headatlas.stimuli import (
    facts,
    indirect_object,
    lexicon,
    lookup,
    multiple_choice_questions,
    ordinals,
    steps,
    stories,
)
from planted import (
    HEADS,
    HELD,
    LAYERS,
    OUT,
    PAST,
    PREVIOUS,
    START,
    WORD,
    Architecture,
    Back,
    Copy,
    Decay,
    Marked,
    Note,
    Planter,
    Same,
    Turn,
)

ARCHITECTURES: tuple[Architecture, ...] = ("gpt2", "llama")
MODELS: tuple[tuple[Architecture, int], ...] = (("gpt2", 0), ("llama", 1))  # with the heads in other places
PROMPTS = 6  # per family
Planted = tuple[Planter, dict[str, list[Head]]]  # a model, and its heads of each type
Circuit = Callable[[Architecture, int], Planted]


def spots(seed: int, count: int, first: int = 0, layers: int = LAYERS) -> list[Head]:
    """So many heads at random, each in a later layer than the one before it, none before layer `first`."""
    rng = random.Random(f"spots {count} {seed}")
    return [Head(layer, rng.randrange(HEADS)) for layer in sorted(rng.sample(range(first, layers), count))]


def words_in(texts: Iterable[str]) -> list[str]:
    """All words of some texts or templates."""
    return sorted({word for text in texts for word in re.findall(r"[A-Za-z]+", text)})


# --- circuits -----------------------------------------------------------------------------------------------------


NAMES = lexicon.NAMES[:30]
STORY = words_in(stories.story(12, random.Random(number), NAMES) for number in range(100))
# A copy gets 300, give or take 96 by its distance; the token itself 100, and the start more than that.
DUPLICATE = [Same(WORD, WORD, 300), Back(0, -200), Marked("start", 155)]
INDUCTION = [Same(WORD, PAST, 60), Marked("start", 30)]
RULE_OUT = [Marked("name", 60, seen_from="asking"), Same(HELD, WORD, -60), Marked("start", 40)]


def saying(architecture: Architecture, seed: int) -> Planted:
    """All that speaks for and against saying a word again.

    Of a passage: the induction circuit. Of two people: a name that was there before is marked, the end is told which
    one it is, a name mover copies all others, and another would if it had not. Last, a head that finds in the text what
    is about to be said, and argues against it, a little.
    """
    early, told, late, later, last = spots(seed, 5)
    previous, induction = (Head(head.layer, (head.head + 2) % HEADS) for head in (early, late))
    words = [*NAMES, *STORY, *lexicon.PLACES, *lexicon.GIFTS, *words_in(indirect_object.TEMPLATES)]
    marks = {"start": [START], "name": NAMES, "asking": ["to"], "repeated": []}
    made = Planter(architecture, words, marks=marks, apart=NAMES, seed=seed)
    made.plant(previous, PREVIOUS, [Copy(WORD, PAST)])
    made.plant(induction, INDUCTION, [Copy(WORD, OUT, 3.0)])
    made.plant(early, DUPLICATE, [Note("name", "repeated")])
    made.plant(told, [Marked("repeated", 60), Marked("start", 30)], [Copy(WORD, HELD)])
    made.plant(late, RULE_OUT, [Copy(WORD, OUT, 5.0)])
    made.plant(later, [*RULE_OUT, Same(OUT, WORD, -20)], [Copy(WORD, OUT, 5.0)])
    made.plant(last, [Same(OUT, WORD, 20), Marked("start", 20)], [Copy(WORD, OUT, -1.0)])
    return made, {
        "previous-token": [previous],
        "induction": [induction, last],  # it looks where the other does, and writes against what it finds
        "duplicate-token": [early],
        "global-retrieval": [early, induction, last],
        "inhibition": [told],
        "name-mover": [late],
        "backup-name-mover": [later],
        "negative-name-mover": [last],
        "copy-suppression": [last],
        "anti-induction": [last],
    }


def placing(architecture: Architecture, seed: int) -> Planted:
    """Heads that look by distance alone: one back, three back, and at all that is near."""
    previous, third, near = spots(seed, 3)
    made = Planter(architecture, [*STORY, *NAMES], marks={"start": [START]}, seed=seed)
    made.plant(previous, PREVIOUS)
    made.plant(third, [Back(3, 300), Marked("start", 275)])
    made.plant(near, [Decay(0.35), Marked("start", -60)])
    return made, {
        "previous-token": [previous],
        "positional": [previous, third],
        "local-context": [previous, third, near],
    }


def resting(architecture: Architecture, seed: int) -> Planted:
    """Heads that look at tokens of a kind: the start; stops; rare words; and signs, where there are any."""
    start, stop, rare, sign = spots(seed, 4)
    signs, stops = ["=", "->", ":", "+:"], ["+.", "+,", "+;"]
    marks = {"start": [START], "stop": stops, "rare": lookup.RARE, "sign": signs}
    made = Planter(architecture, [*STORY, *NAMES, *lookup.RARE, "=", "->", ":"], marks=marks, seed=seed)
    made.plant(start, [Marked("start", 60)])
    made.plant(stop, [Marked("stop", 60)])
    made.plant(rare, [Marked("rare", 60)])
    made.plant(sign, [Marked("sign", 60), Marked("start", 30)])
    return made, {
        "attention-sink": [start, sign],
        "delimiter": [stop],
        "rare-words": [rare],
        "active-dormant": [sign],
    }


def reciting(architecture: Architecture, seed: int) -> Planted:
    """The induction circuit, which recites a needle once it has begun."""
    previous, induction = spots(seed, 2)
    needles = words_in(text for pair in lookup.NEEDLES for text in pair)
    made = Planter(architecture, [*STORY, *NAMES, *needles], marks={"start": [START]}, seed=seed)
    made.plant(previous, PREVIOUS, [Copy(WORD, PAST)])
    made.plant(induction, INDUCTION, [Copy(WORD, OUT, 3.0)])
    return made, {
        "positional": [previous],
        "induction": [induction],
        "retrieval": [induction],
        "global-retrieval": [induction],
    }


def abbreviating(architecture: Architecture, seed: int) -> Planted:
    """A head that looks three back, where the word in turn is while an acronym is written, and writes its initial."""
    (head,) = spots(seed, 1, first=1)
    letters = {letter: [name for name in lexicon.NAMES if name[0] == letter] for letter in string.ascii_uppercase}
    said = {f"say {letter}": [f"+{letter}"] for letter in letters}
    marks = {"start": [START], **letters}
    made = Planter(architecture, ["The", "(", *lexicon.NAMES], marks=marks, says=said, seed=seed)
    initials = [Note(letter, f"say {letter}", 3.0) for letter in letters]
    made.plant(head, [Back(3, 300), Marked("start", 275)], initials)
    return made, {"letter-mover": [head]}


KINDS = {
    "colors": lexicon.COLORS,
    "months": ordinals.CLASSES["months"],
    "number words": ordinals.CLASSES["number words"],
    **{kind: facts.KINDS[kind] for kind in ("animal", "food", "vehicle")},
}


def sorting(architecture: Architecture, seed: int) -> Planted:
    """A head that looks at words of the kind of the present one, but not at that word itself."""
    (head,) = spots(seed, 1)
    words = [word for kind in KINDS.values() for word in kind]
    made = Planter(architecture, [*words, "and"], marks={"start": [START], **KINDS}, seed=seed)
    alike = [Marked(kind, 60, seen_from=kind) for kind in KINDS]
    made.plant(head, [*alike, Same(WORD, WORD, -60), Marked("start", 30)])
    return made, {"self-suppressing": [head]}


CLASSES = [ordinals.CLASSES[name] for name in ("number words", "ordinal words", "days", "months")]


def counting(architecture: Architecture, seed: int) -> Planted:
    """A head that looks at the latest ordinal and says what comes after it."""
    (head,) = spots(seed, 1, first=1)
    members = [word for members in CLASSES for word in members]
    after = {one: other for members in CLASSES for one, other in itertools.pairwise(members)}
    made = Planter(architecture, [*members, *lexicon.NAMES], marks={"start": [START], "ordinal": members}, seed=seed)
    made.plant(head, [Marked("ordinal", 60), Decay(0.4)], [Turn(after, OUT, 3.0)])
    return made, {"successor": [head]}


def known() -> dict[str, list[str]]:
    """Of each word of the facts of the real world, those that go with it."""
    partners: dict[str, list[str]] = {}
    for relation in facts.RELATIONS:
        for one, other in relation.pairs.items() if relation.real else ():
            partners.setdefault(one, []).append(other)
            partners.setdefault(other, []).append(one)
    return partners


def judging(architecture: Architecture, seed: int) -> Planted:
    """A head that looks from the end of a claim at the word that goes with the one there, else at the start.

    It takes along only where it looked, so its z says whether the claim is true.
    """
    (head,) = spots(seed, 1, layers=2)
    partners = known()
    marks = {"start": [START], "doubt": []}
    made = Planter(architecture, partners, marks=marks, facts=partners, seed=seed, layers=2)
    made.plant(head, [Same(WORD, PAST, 100), Marked("start", 70)], [Note("start", "doubt")])
    return made, {"truthfulness": [head]}


def answering(architecture: Architecture, seed: int) -> Planted:
    """A head that looks at what a fact is about, and says all that goes with it."""
    (head,) = spots(seed, 1)
    partners = known()
    subjects = {one for relation in facts.RELATIONS if relation.real for one in relation.pairs}
    marks = {"start": [START], "subject": subjects}
    made = Planter(architecture, partners, marks=marks, facts=partners, seed=seed)
    made.plant(head, [Marked("subject", 60), Marked("start", 30)], [Copy(PAST, OUT, 3.0)])
    return made, {"mover": [head]}


def choosing(architecture: Architecture, seed: int) -> Planted:
    """A head that looks at the letters of the options, at all alike, and says them."""
    (head,) = spots(seed, 1)
    words = [*multiple_choice_questions.LETTERS, *known(), *STORY, *NAMES]
    made = Planter(
        architecture, words, marks={"start": [START], "letter": multiple_choice_questions.LETTERS}, seed=seed
    )
    made.plant(head, [Marked("letter", 60), Marked("start", 30)], [Copy(WORD, OUT, 6.0)])
    return made, {"constant": [head]}


def dating(architecture: Architecture, seed: int) -> Planted:
    """A head that looks at the year in which something began, and makes later years likelier, decade by decade."""
    (head,) = spots(seed, 1)
    years = [f"+{number:02d}" for number in range(100)]
    later = {f"from {start}": years[start:] for start in range(0, 100, 10)}
    said = {f"say {decade}": after for decade, after in later.items()}
    words = [*(str(century) for century in range(11, 18)), *steps.EVENTS, *words_in(steps.YEARS), *years]
    made = Planter(architecture, words, marks={"start": [START], **later}, says=said, seed=seed)
    looks = [Marked("from 0", 60), Marked("start", 30)]
    made.plant(head, looks, [Note(decade, f"say {decade}", 1.0) for decade in later])
    return made, {"greater-than": [head]}


CIRCUITS: tuple[Circuit, ...] = (
    saying,
    placing,
    resting,
    reciting,
    abbreviating,
    sorting,
    counting,
    judging,
    answering,
    choosing,
    dating,
)
planted_by = functools.cache(lambda circuit, architecture, seed: circuit(architecture, seed))
