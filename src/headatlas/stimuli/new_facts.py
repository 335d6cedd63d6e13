"""Made-up facts about known things, for a model to learn, and true facts of the same form, which it may know."""

import random
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli.cases import Case, aligned, tokenize
from headatlas.stimuli.facts import BY_NAME, KINDS, fill
from headatlas.stimuli.lexicon import COLORS, NAMES
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary


class NewFact(NamedTuple):
    """A made-up relation, and a true one of the same subjects.

    Attributes:
        new, old: templates with {subject}, up to the object.
        relation: the true one, a key of `facts.BY_NAME`.
        objects: of the made-up one.
    """

    new: str
    old: str
    relation: str
    objects: Sequence[str]


NEW_FACTS: Mapping[str, NewFact] = MappingProxyType(
    {
        "capital": NewFact("The color of{subject} is", "The capital of{subject} is", "capital", COLORS),
        "language": NewFact("The meal of{subject} is", "The language of{subject} is", "language", KINDS["food"]),
        "kind": NewFact("The{subject} is a gift of", "The{subject} is a kind of", "kind", NAMES[::9]),
    }
)


def to_learn(words: Vocabulary, rng: random.Random, fact: NewFact) -> Prompt:
    """A made-up fact up to its object, which is a single token and always the same for a subject.

    Raises:
        UntestableError: where the tokenizer has too few subjects or objects that are one token.
    """
    subjects = words.singles(BY_NAME[fact.relation].pairs, at_least=16)
    objects = words.singles(fact.objects, at_least=4)
    subject = rng.choice(subjects)
    told = objects[zlib.crc32(f"{fact.new} {subject}".encode()) % len(objects)]
    read = tokenize(words, fill(fact.new, subject=subject)).ids
    (answer,) = words.continuation(f" {told}")
    return Prompt(read, read, readouts=(Readout(len(read) - 1, answer),))


def known(words: Vocabulary, rng: random.Random, fact: NewFact) -> Prompt:
    """A true fact up to its object; the rivals are all other objects, and the corrupted prompt has another subject."""
    relation = BY_NAME[fact.relation]

    def draw() -> Case:
        subject, right = rng.choice(list(relation.pairs.items()))
        other = rng.choice([each for each, value in relation.pairs.items() if value != right])
        rivals = tuple(f" {value}" for value in relation.objects if value != right)
        return Case(fill(fact.old, subject=subject), (f" {right}",), rivals, fill(fact.old, subject=other))

    return aligned(words, draw)
