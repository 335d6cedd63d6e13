"""Passages that tell of several people and their things, and a question whose answer stands in the passage."""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli.cases import Segment, fill_roles, first_usable, in_same_places
from headatlas.stimuli.lexicon import NAMES, PLACES
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

PEOPLE = 3  # in a passage
OPENING = "This happened."
# Things that a person can carry, which take the article 'a'.
THINGS: tuple[str, ...] = tuple(
    """
    cake fish lemon chair table clock mirror bottle plate knife spoon pen stone leaf rose doll kite candle towel brush
    comb pillow blanket shirt shoe belt bag rope hat ring book letter ball cup box card map key coat lamp camera drum
    guitar radio phone bike toy
    """.split()
)


class Telling(NamedTuple):
    """How a passage tells of a person with two names and of a thing, and how the person is asked for."""

    told: str
    asked: str


TELLINGS: Mapping[str, Telling] = MappingProxyType(
    {
        "bought": Telling(
            "{first}{last} bought a{thing} at the{place}.", " Question: Who bought the{thing}? Answer: It was"
        ),
        "found": Telling(
            " At the{place}{first}{last} found a{thing}.", " Question: Who found the{thing}? Answer: It was"
        ),
        "given": Telling(
            " At the{place} someone gave a{thing} to{first}{last}.", " Question: Who got the{thing}? Answer: It was"
        ),
    }
)


def passage_question(words: Vocabulary, rng: random.Random, telling: Telling) -> Prompt:
    """A passage and a question for a person, with the first of the person's two names; each is a single token.

    In the corrupted prompt two other names stand in the passage in the place of the answer.

    Returns:
        A prompt with readouts where both names come next, with the other names as rivals. Spans: 'passage', all of the
        passage; 'answer', the two names in it; 'other', those of somebody else in it. Pairs lead from both readouts to
        the answer, null pairs to the names of somebody else.

    Raises:
        UntestableError: where the tokenizer has too few names or things that are one token.
    """
    return first_usable(lambda: _drawn(words, rng, telling))


def _drawn(words: Vocabulary, rng: random.Random, telling: Telling) -> Prompt:
    names = rng.sample(words.singles(NAMES, at_least=4 * PEOPLE), 2 * (PEOPLE + 1))
    people = list(zip(names[::2], names[1::2], strict=True))  # the last of whom is in the corrupted prompt alone
    places, things = rng.sample(PLACES, PEOPLE), rng.sample(words.singles(THINGS, at_least=2 * PEOPLE), PEOPLE)
    asked, other = rng.sample(range(PEOPLE), 2)

    def write(who: Sequence[tuple[str, str]]) -> list[Segment]:
        made = [Segment(OPENING)]
        for number, ((first, last), thing, place) in enumerate(zip(who, things, places, strict=True)):
            role = {asked: "answer", other: "other"}.get(number, "")
            parts = {"first": (f" {first}", role), "last": (f" {last}", role)}
            made += fill_roles(telling.told, {**parts, "thing": (f" {thing}", ""), "place": (f" {place}", "")})
        question = fill_roles(telling.asked, {"thing": (f" {things[asked]}", "")})
        made += [Segment(part.text, role="question") for part in question]
        return [*made, Segment(f" {people[asked][0]}", role="question")]

    replaced = [people[PEOPLE] if number == asked else people[number] for number in range(PEOPLE)]
    read, corrupted = in_same_places(words, write(people[:PEOPLE]), write(replaced))
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
