"""Sentences of known grammar: number agreement at a distance, and the dependencies of every word."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from headatlas.stimuli.cases import Case, Partition, Segment, in_partition, segments, tokenize
from headatlas.stimuli.lexicon import COLORS, PLACES, QUALITIES
from headatlas.stimuli.mappings import MAPPINGS
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

PREPOSITIONS: tuple[str, ...] = tuple("near behind under above beside".split())
VERBS: tuple[tuple[str, str], ...] = ((" is", " are"), (" was", " were"), (" has", " have"))
TRANSITIVE: tuple[tuple[str, str], ...] = tuple(
    (pair.split(":")[0], pair.split(":")[1])
    for pair in "sees:see hides:hide moves:move holds:hold wants:want needs:need likes:like".split()
)


def agreement(split: Partition, rng: random.Random, lead: str = "") -> Case:
    """A subject noun, another noun, and the verb that agrees with the subject. The corrupted prompt changes the
    subject's number.

    The i-th answer and the i-th rival are forms of the same verb. `lead` is text put before the sentence.
    """
    plurals = MAPPINGS["plural"]
    while True:
        noun, other = rng.sample(list(plurals), 2)
        if in_partition(split, "agreement", noun):
            break
    many, crowd = rng.random() < 0.5, rng.random() < 0.5
    quality = f" {rng.choice((*QUALITIES, *COLORS))}" if rng.random() < 0.5 else ""
    between = f" {rng.choice(PREPOSITIONS)} the"
    attractor = plurals[other] if crowd else other
    verb = rng.randrange(len(VERBS))
    verbs = [VERBS[verb], *VERBS[:verb], *VERBS[verb + 1 :]]  # the document uses the first; the rest are right too

    def write(several: bool) -> tuple[Segment, ...]:
        subject = plurals[noun] if several else noun
        the = f" The{quality}" if lead else f"The{quality}"
        return segments(lead, the, (f" {subject}", "subject"), between, (f" {attractor}", "attractor"))

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
    """Draw a sentence: The (adjective) noun (preposition the noun) verbs the (adjective) noun (in the place)."""
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


@dataclass(frozen=True)
class Dependencies(Prompt):
    """A parsed sentence, with pairs from the later to the earlier word of each dependency.

    Attributes:
        relations: the relation of each pair.
    """

    relations: tuple[str, ...] = ()

    def of(self, relation: str) -> list[tuple[int, int]]:
        """The pairs of one relation."""
        return [pair for pair, name in zip(self.pairs, self.relations, strict=True) if name == relation]


def dependencies(words: Vocabulary, rng: random.Random, relations: Collection[str], lead: str = "") -> Dependencies:
    """Draw a sentence in which every word is one token and all given relations occur, after the text `lead`.

    Raises:
        UntestableError: if none of 500 sentences qualifies.
    """
    for _ in range(500):
        sentence = parsed(rng)
        first, *rest = sentence.words
        parts = segments(lead, *((word, "word") for word in (f" {first}" if lead else first, *rest)))
        read = tokenize(words, parts)
        places = read.at("word")
        arcs = {tuple(sorted((places[a], places[b]), reverse=True)): name for a, b, name in sentence.arcs}
        kept = {(query, key): name for (query, key), name in arcs.items() if name in relations}
        if places == read.covers("word") and {*kept.values()} == {*relations}:
            return Dependencies(read.ids, read.ids, tuple(kept), relations=tuple(kept.values()))
    raise UntestableError("in none of 500 parsed sentences all words are single tokens of this tokenizer")


def sentences(split: Partition, rng: random.Random) -> list[Segment]:
    """One to three parsed sentences as plain text."""
    made: list[Segment] = []
    for number in range(rng.randint(1, 3)):
        first, *rest = parsed(rng).words
        made += [Segment(f" {first}" if number else first), Segment("".join(rest)), Segment(".")]
    return made


def joined(mark: str, count: int, rng: random.Random) -> tuple[Segment, ...]:
    """`count` parsed sentences, each followed by a mark; capitalised only at the start and after a full stop."""
    made: list[Segment] = []
    for number in range(count):
        first, *rest = parsed(rng).words
        start = first if number == 0 else f" {first}" if mark == "." else f" {first.lower()}"
        made += segments("".join((start, *rest)), (mark, "delimiter"))
    return tuple(made)
