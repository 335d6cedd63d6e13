"""Passages that tell of several people and their things, and a question whose answer stands in the passage."""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli.cases import Segment, fill_roles, first_usable, in_same_places
from headatlas.stimuli.lexicon import COLORS, NAMES, PLACES
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

PEOPLE = 3  # in a passage
OPENING = "This happened."
# Adjectives that take the article 'a', and things that a person can carry.
ADJECTIVES: tuple[str, ...] = (*COLORS, *"big small new long clean heavy".split())
THINGS: tuple[str, ...] = tuple(
    """
    cake fish lemon chair table clock mirror bottle plate knife spoon pen stone leaf rose doll kite candle towel brush
    comb pillow blanket shirt shoe belt bag rope hat ring book letter ball cup box card map key coat lamp camera drum
    guitar radio phone bike toy
    """.split()
)


class Telling(NamedTuple):
    """How a passage tells of a person's thing, and how it is asked for; the answer follows after 'It was a'."""

    told: str
    asked: str


TELLINGS: Mapping[str, Telling] = MappingProxyType(
    {
        "bought": Telling(
            "{name} bought a{quality}{thing} at the{place}.", " Question: What did{name} buy? Answer: It was a"
        ),
        "found": Telling(
            " At the{place}{name} found a{quality}{thing}.", " Question: What did{name} find? Answer: It was a"
        ),
        "given": Telling(
            " At the{place} someone gave a{quality}{thing} to{name}.", " Question: What did{name} get? Answer: It was a"
        ),
    }
)


def passage_question(words: Vocabulary, rng: random.Random, telling: Telling) -> Prompt:
    """A passage and a question, with the first of the two words of its answer; each word is a single token.

    In the corrupted prompt two other words stand in the passage in the place of the answer.

    Returns:
        A prompt with readouts where both words come next, with the other words as rivals. Spans: 'passage', all of the
        passage; 'answer', the two words in it; 'other', the two words that it tells of somebody else. Pairs lead from
        both readouts to the answer, null pairs to the other words.

    Raises:
        UntestableError: where the tokenizer has too few names, adjectives or things that are one token.
    """
    return first_usable(lambda: _drawn(words, rng, telling))


def _drawn(words: Vocabulary, rng: random.Random, telling: Telling) -> Prompt:
    names = rng.sample(words.singles(NAMES, at_least=2 * PEOPLE), PEOPLE)
    places = rng.sample(PLACES, PEOPLE)
    adjectives = rng.sample(words.singles(ADJECTIVES, at_least=2 * PEOPLE), PEOPLE + 1)
    things = rng.sample(words.singles(THINGS, at_least=2 * PEOPLE), PEOPLE + 1)
    asked, other = rng.sample(range(PEOPLE), 2)
    own = [*zip(adjectives, things, strict=True)]

    def write(whose: Sequence[tuple[str, str]]) -> list[Segment]:
        made = [Segment(OPENING)]
        for person, (name, place, (quality, thing)) in enumerate(zip(names, places, whose, strict=True)):
            role = {asked: "answer", other: "other"}.get(person, "")
            parts = {"quality": (f" {quality}", role), "thing": (f" {thing}", role)}
            made += fill_roles(telling.told, {**parts, "name": (f" {name}", ""), "place": (f" {place}", "")})
        question = fill_roles(telling.asked, {"name": (f" {names[asked]}", "")})
        made += [Segment(part.text, role="question") for part in question]
        return [*made, Segment(f" {adjectives[asked]}", role="question")]

    replaced = [own[PEOPLE] if person == asked else own[person] for person in range(PEOPLE)]
    read, corrupted = in_same_places(words, write(own[:PEOPLE]), write(replaced))
    end, spans = len(read.ids) - 1, {role: tuple(read.covers(role)) for role in ("answer", "other")}
    spans["passage"] = tuple(range(len(words.bos), min(read.covers("question"))))
    (first, second), (rival, last_rival) = (
        [ids[place] for place in spans["answer"]] for ids in (read.ids, corrupted.ids)
    )
    return Prompt(
        read.ids,
        corrupted.ids,
        pairs=tuple((query, key) for query in (end - 1, end) for key in spans["answer"]),
        null_pairs=tuple((query, key) for query in (end - 1, end) for key in spans["other"]),
        readouts=(Readout(end - 1, first, (rival,)), Readout(end, second, (last_rival,))),
        spans=spans,
    )
