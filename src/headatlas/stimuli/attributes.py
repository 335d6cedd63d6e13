"""Questions for an attribute of a country, in which subject and relation can be exchanged one at a time.

Word positions are the same in all prompts of one draw, so that a head's contribution from the subject can be told apart
from its contribution from the relation.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from headatlas.stimuli.cases import Segment, first_usable, tokenize
from headatlas.stimuli.facts import BY_NAME, COUNTRIES, fill
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

ATTRIBUTES: tuple[str, ...] = ("capital", "language", "continent")
WAYS: tuple[str, ...] = (
    "The{relation} of{subject} is",
    "In{subject} the{relation} is",
    "Question: What is the{relation} of{subject}? Answer:",
)
Exchanged = Literal["subject", "relation", "both"]


def ask(way: str, relation: str, subject: str) -> tuple[Segment, ...]:
    """A question (or statement) for an attribute, up to the answer; `way` is one of WAYS."""
    return fill(way, relation=relation, subject=subject)


def crossed(
    words: Vocabulary, rng: random.Random, way: str, corrupted: Exchanged, alternative: Exchanged | None = None
) -> Prompt:
    """A question for an attribute of a country, with variants that exchange subject, relation or both.

    Args:
        words: vocabulary of the model.
        rng: draws the country and the attribute; the exchanged country shares no attribute with it.
        way: the wording, one of WAYS.
        corrupted: what the corrupted prompt exchanges.
        alternative: what the alternative of that name exchanges; by default there is no alternative.

    Returns:
        A prompt with the spans 'subject' and 'relation'. Pairs lead from its end to the subject, null pairs to the
        relation. The rivals are all other answers to all ATTRIBUTES, those of the category asked for first;
        `Readout.alike` counts these.

    Raises:
        UntestableError: if the tokenizer keeps giving subjects or relations of different lengths.
    """
    return first_usable(lambda: _crossed(words, rng, way, corrupted, alternative))


def places(prompts: Sequence[Prompt]) -> tuple[list[list[int]], list[list[int]]]:
    """For each prompt, the positions of its subject's tokens, and of its relation's tokens."""
    subjects, relations = ([list(each.spans[role]) for each in prompts] for role in ("subject", "relation"))
    return subjects, relations


def among_kind(prompt: Prompt) -> Prompt:
    """Keep only the rivals of the category asked for."""
    return _narrowed(prompt, slice(0, prompt.readouts[0].alike))


def among_others(prompt: Prompt) -> Prompt:
    """Keep only the rivals of other categories."""
    return _narrowed(prompt, slice(prompt.readouts[0].alike, None))


def _narrowed(prompt: Prompt, which: slice) -> Prompt:
    (readout,) = prompt.readouts
    return replace(prompt, readouts=(replace(readout, rivals=readout.rivals[which]),))


def _crossed(
    words: Vocabulary, rng: random.Random, way: str, corrupted: Exchanged, alternative: Exchanged | None
) -> Prompt:
    subject, relation = rng.choice(list(COUNTRIES)), rng.choice(ATTRIBUTES)
    stranger = rng.choice([each for each, row in COUNTRIES.items() if not set(row) & set(COUNTRIES[subject])])
    elsewhere = rng.choice([each for each in ATTRIBUTES if each != relation])
    exchanged = {"subject": (relation, stranger), "relation": (elsewhere, subject), "both": (elsewhere, stranger)}

    asked = tokenize(words, ask(way, relation, subject))
    made = {which: tokenize(words, ask(way, *exchanged[which])).ids for which in (corrupted, alternative) if which}
    if any(len(ids) != len(asked.ids) for ids in made.values()):
        raise UntestableError(f"{subject} and {stranger}, or {relation} and {elsewhere}, differ in their tokens")
    end = len(asked.ids) - 1
    answer, kind, rest = _answers(words, subject, relation)
    return Prompt(
        tokens=asked.ids,
        corrupted=made[corrupted],
        pairs=tuple((end, place) for place in asked.covers("subject")),
        null_pairs=tuple((end, place) for place in asked.covers("relation")),
        readouts=(Readout(end, answer, (*kind, *rest), alike=len(kind)),),
        alternatives={alternative: made[alternative]} if alternative else {},
        spans={role: tuple(asked.covers(role)) for role in ("subject", "relation")},
    )


def _answers(words: Vocabulary, subject: str, relation: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """First tokens of the right answer, of other answers of its category, and of all other categories; no overlap."""
    first = {each: [words.continuation(f" {value}")[0] for value in BY_NAME[each].objects] for each in ATTRIBUTES}
    answer = words.continuation(f" {BY_NAME[relation].pairs[subject]}")[0]
    if first[relation].count(answer) > 1:
        raise UntestableError(f"the {relation} of {subject} begins as another answer does")
    kind = tuple(dict.fromkeys(token for token in first[relation] if token != answer))
    rest = dict.fromkeys(token for each in ATTRIBUTES if each != relation for token in first[each])
    return answer, kind, tuple(token for token in rest if token not in (answer, *kind))
