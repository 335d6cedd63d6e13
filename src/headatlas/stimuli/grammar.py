"""Sentences whose grammar is known: number agreement at a distance, and the dependency of every word."""

import random
from dataclasses import dataclass

from headatlas.stimuli.cases import Case, Segment, Split, in_split, segments
from headatlas.stimuli.lexicon import COLORS, PLACES, QUALITIES
from headatlas.stimuli.mappings import MAPPINGS

PREPOSITIONS: tuple[str, ...] = tuple("near behind under above beside".split())
VERBS: tuple[tuple[str, str], ...] = ((" is", " are"), (" was", " were"), (" has", " have"))
TRANSITIVE: tuple[tuple[str, str], ...] = tuple(
    (pair.split(":")[0], pair.split(":")[1])
    for pair in "sees:see hides:hide moves:move holds:hold wants:want needs:need likes:like".split()
)


def agreement(split: Split, rng: random.Random) -> Case:
    """A noun, another noun in between, and the verb that agrees with the first. The twin changes the first's number."""
    plurals = MAPPINGS["plural"]
    while True:
        noun, other = rng.sample(list(plurals), 2)
        if in_split(split, "agreement", noun):
            break
    many, crowd = rng.random() < 0.5, rng.random() < 0.5
    quality = f" {rng.choice((*QUALITIES, *COLORS))}" if rng.random() < 0.5 else ""
    between = f" {rng.choice(PREPOSITIONS)} the"
    attractor = plurals[other] if crowd else other
    verb = rng.randrange(len(VERBS))
    verbs = [VERBS[verb], *VERBS[:verb], *VERBS[verb + 1 :]]  # the document's own first; all of a number are right

    def write(several: bool) -> tuple[Segment, ...]:
        subject = plurals[noun] if several else noun
        return segments(f"The{quality}", (f" {subject}", "subject"), between, (f" {attractor}", "attractor"))

    right, wrong = (tuple(pair[side] for pair in verbs) for side in (many, not many))
    return Case(write(many), right, wrong, write(not many), (" here.", " new.", " a place.")[verb])


@dataclass(frozen=True)
class Parsed:
    """A sentence with its gold dependencies.

    Attributes:
        words: in order; the first has no leading space.
        arcs: (dependent, head, relation), by word number; relations are named as in Universal Dependencies.
    """

    words: tuple[str, ...]
    arcs: tuple[tuple[int, int, str], ...]


def parsed(rng: random.Random) -> Parsed:
    """A sentence: The (adjective) noun (preposition the noun) verbs the (adjective) noun (in the place)."""
    words: list[str] = []
    arcs: list[tuple[int, int, str]] = []

    def noun_phrase(first: bool) -> int:
        the = len(words)
        words.append("The" if first else " the")
        adjective = None
        if rng.random() < 0.6:
            adjective = len(words)
            words.append(f" {rng.choice((*QUALITIES, *COLORS))}")
        noun = len(words)
        words.append(f" {rng.choice(list(MAPPINGS['plural']))}")
        arcs.append((the, noun, "det"))
        if adjective is not None:
            arcs.append((adjective, noun, "amod"))
        return noun

    def attached(to: int, relation: str, preposition: str, place: bool) -> None:
        case = len(words)
        words.append(f" {preposition}")
        if place:
            words.extend((" the", f" {rng.choice(PLACES)}"))
            noun = len(words) - 1
            arcs.append((noun - 1, noun, "det"))
        else:
            noun = noun_phrase(False)
        arcs.extend(((case, noun, "case"), (noun, to, relation)))

    subject = noun_phrase(True)
    if rng.random() < 0.4:
        attached(subject, "nmod", rng.choice(PREPOSITIONS), False)
    verb = len(words)
    words.append(f" {rng.choice(TRANSITIVE)[0]}")
    arcs.append((subject, verb, "nsubj"))
    arcs.append((noun_phrase(False), verb, "obj"))
    if rng.random() < 0.5:
        attached(verb, "obl", rng.choice(("in", "at")), True)
    return Parsed(tuple(words), tuple(sorted(arcs)))


def sentences(split: Split, rng: random.Random) -> list[Segment]:
    """A few parsed sentences as plain text."""
    made: list[Segment] = []
    for number in range(rng.randint(1, 3)):
        first, *rest = parsed(rng).words
        made += [Segment(f" {first}" if number else first), Segment("".join(rest)), Segment(".")]
    return made


def joined(mark: str, count: int, rng: random.Random) -> tuple[Segment, ...]:
    """So many parsed sentences, each followed by a mark; only after a full stop does one begin with a capital."""
    made: list[Segment] = []
    for number in range(count):
        first, *rest = parsed(rng).words
        start = first if number == 0 else f" {first}" if mark == "." else f" {first.lower()}"
        made += segments("".join((start, *rest)), (mark, "delimiter"))
    return tuple(made)
