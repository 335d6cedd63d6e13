"""A text that tells a few words of somebody, and a question answered with these words or, falsely, with others."""

import random

from headatlas.stimuli import lookup
from headatlas.stimuli.cases import Segment, first_usable, in_same_places
from headatlas.stimuli.chat import in_chat
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

CONTRADICTING = ("other words said", "these words said of others")  # names of the alternatives


def prompt(words: Vocabulary, rng: random.Random, sentences: int, count: int, chat: bool = False) -> Prompt:
    """A text, a question, and an answer that is true to the text.

    Two lists of words are drawn. The prompt tells the first and answers with it; the corrupted prompt tells the second
    and answers with it. The alternatives contradict: one tells the first and answers with the second, the other tells
    the second and answers with the first.

    Args:
        words: vocabulary of the model.
        rng: draws.
        sentences: of the text, besides the one that tells the words.
        count: of words.
        chat: whether text and question are a user's turn in the tokenizer's chat template, and the answer the model's.

    Returns:
        A prompt that is read where each word of its answer comes next. Spans: 'context', the text; 'answer', the words
        of the answer.

    Raises:
        UntestableError: if the tokenizer cannot express it.
    """
    return first_usable(lambda: _drawn(words, rng, sentences, count, chat))


def _drawn(words: Vocabulary, rng: random.Random, sentences: int, count: int, chat: bool) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    case = lookup.needle("held-out", rng, sentences, count)
    words.singles([part.text.strip() for part in case.segments if part.role == "needle"], at_least=count)
    mine, other = (
        (*parts, Segment(last, role="copied"))
        for parts, (last,) in ((case.segments, case.answers), (case.corrupted, case.rivals))
    )

    def told_and_said(told: tuple[Segment, ...], said: tuple[Segment, ...]) -> tuple[Segment, ...]:
        return tuple(its if its.role == "copied" else part for part, its in zip(told, said, strict=True))

    true, elsewhere, *false = in_same_places(words, mine, other, told_and_said(mine, other), told_and_said(other, mine))
    question, answer = (
        next(n for n, part in enumerate(mine) if part.text == text) for text in (" Question:", " Answer:")
    )
    places = true.covers("copied")
    made = Prompt(
        true.ids,
        elsewhere.ids,
        readouts=tuple(Readout(place - 1, true.ids[place]) for place in places),
        alternatives={name: each.ids for name, each in zip(CONTRADICTING, false, strict=True)},
        spans={"context": tuple(range(len(words.bos), true.spans[question][0])), "answer": tuple(places)},
    )
    return in_chat(words, made, opening=len(true.ids) - true.spans[answer][0]) if chat else made
