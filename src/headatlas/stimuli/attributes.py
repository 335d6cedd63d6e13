"""An attribute of a country, asked for by its name, with the country and the attribute exchanged one at a time.

Between them, the prompts of one draw hold fixed the places of the words, so that what a head takes from the subject and
what it takes from the relation can be told apart.
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
    """One of WAYS to ask, up to the answer; the roles are 'relation' and 'subject'."""
    return fill(way, relation=relation, subject=subject)


def crossed(
    words: Vocabulary, rng: random.Random, way: str, corrupted: Exchanged, alternative: Exchanged | None = None
) -> Prompt:
    """An attribute asked for, and the same with other words in its places.

    Args:
        words: of the model.
        rng: draws the country and the attribute; another country shares no attribute with it.
        way: how it is asked, one of WAYS.
        corrupted: what the corrupted prompt exchanges.
        alternative: what the prompt of that name among the alternatives exchanges; there is none by default.

    Returns:
        A prompt with the spans 'subject' and 'relation'. Its pairs lead from its end to the subject, its null_pairs to
        the relation. The rivals are all other answers to all of ATTRIBUTES, those of the kind asked for first;
        `Readout.alike` says how many these are.

    Raises:
        UntestableError: where the tokenizer gives subjects or relations of different lengths, again and again.
    """
    return first_usable(lambda: _crossed(words, rng, way, corrupted, alternative))


def places(prompts: Sequence[Prompt]) -> tuple[list[list[int]], list[list[int]]]:
    """Of each prompt, the positions of its subject's tokens; and those of its relation's."""
    subjects, relations = ([list(each.spans[role]) for each in prompts] for role in ("subject", "relation"))
    return subjects, relations


def among_kind(prompt: Prompt) -> Prompt:
    """The same, with the rivals of the kind asked for alone."""
    return _narrowed(prompt, slice(0, prompt.readouts[0].alike))


def among_others(prompt: Prompt) -> Prompt:
    """The same, with the rivals of other kinds alone."""
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
    """First tokens: of the right answer, of others of its kind, and of all other kinds; none is in two of them."""
    first = {each: [words.continuation(f" {value}")[0] for value in BY_NAME[each].objects] for each in ATTRIBUTES}
    answer = words.continuation(f" {BY_NAME[relation].pairs[subject]}")[0]
    if first[relation].count(answer) > 1:
        raise UntestableError(f"the {relation} of {subject} begins as another answer does")
    kind = tuple(dict.fromkeys(token for token in first[relation] if token != answer))
    rest = dict.fromkeys(token for each in ATTRIBUTES if each != relation for token in first[each])
    return answer, kind, tuple(token for token in rest if token not in (answer, *kind))
