"""Facts of the real world, stated up to their object, alone or as the answer to a question in a chat."""

import random
from dataclasses import replace

from headatlas.stimuli import facts
from headatlas.stimuli.cases import Case, Segment, first_usable, in_place, segments
from headatlas.stimuli.chat import in_chat
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

FEWEST = 3  # other objects of a relation that are single tokens
_REAL = tuple(relation for relation in facts.RELATIONS if relation.real)


def prompt(words: Vocabulary, rng: random.Random, statement: str, question: str = "") -> Prompt:
    """A fact, stated up to its object, which is a single token and comes next.

    The corrupted prompt states a fact of the same relation about another subject with another object. Rivals are the
    other objects of the relation that are single tokens.

    Args:
        words: vocabulary of the model.
        rng: draws.
        statement: how a capital is stated; other relations have their wording of the same place.
        question: how a capital is asked for, in a user's turn of the tokenizer's chat template, which the statement
            answers; without one the statement stands alone.

    Returns:
        A prompt read at its end. Span 'stated': the statement, from its second token on.

    Raises:
        UntestableError: if the tokenizer cannot express it.
    """
    return first_usable(lambda: _drawn(words, rng, statement, question))


def _drawn(words: Vocabulary, rng: random.Random, statement: str, question: str) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    relation = rng.choice(_REAL)
    known = {subject: value for subject, value in relation.pairs.items() if words.single(value) is not None}
    if len(set(known.values())) <= FEWEST:
        raise UntestableError(f"too few objects of the relation {relation.name!r} are single tokens")
    subject = rng.choice(list(known))
    other = rng.choice([each for each, value in known.items() if value != known[subject]])
    stated = facts.worded_like(relation, "statements", statement)
    asked = facts.worded_like(relation, "questions", question) if question else ""

    def write(who: str) -> tuple[Segment, ...]:
        turn = facts.fill(asked, start=False, subject=who) if question else ()
        told = (replace(part, role="stated") for part in facts.fill(stated, start=not question, subject=who))
        return (*turn, *told)

    rivals = tuple(f" {value}" for value in sorted({*known.values()} - {known[subject]}))
    made, places = in_place(words, Case(segments(*write(subject)), (f" {known[subject]}",), rivals, write(other)))
    told = places.covers("stated")
    made = replace(made, spans={"stated": tuple(told[1:])})
    return in_chat(words, made, opening=len(told)) if question else made
