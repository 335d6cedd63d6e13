"""A text that tells a fact, rightly or wrongly, and a question answered as the text says, or otherwise.

The fact is a capital or a language that models know. Where the text tells it wrongly, the learned answer contradicts
the text: it is what a model says that does not go by the text.
"""

import random

from headatlas.stimuli import facts, stories
from headatlas.stimuli.cases import Segment, first_usable, in_same_places, of_partition, segments
from headatlas.stimuli.chat import in_chat
from headatlas.stimuli.lexicon import NAMES
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

CONTRADICTING = ("learned answer to the wrong text", "wrong answer to the right text")  # names of the alternatives
_RELATIONS = tuple(facts.BY_NAME[name] for name in ("capital", "language"))


def prompt(words: Vocabulary, rng: random.Random, like: str, sentences: int, chat: bool, answered: bool) -> Prompt:
    """A text that tells a fact wrongly, a question for it, and the answer that is true to the text.

    The corrupted prompt is the same with the learned fact, which its text tells and its answer repeats. The
    alternatives contradict their texts: they have the answer of the other.

    Args:
        words: vocabulary of the model.
        rng: draws.
        like: how a capital is told; languages are told in their wording of the same place.
        sentences: of a story around the fact.
        chat: whether text and question are a user's turn in the tokenizer's chat template, and the answer the model's.
        answered: whether the answer is there; without it the prompt ends where it comes next, and is read there. The
            first rival is the learned answer, then come all others of its kind.

    Returns:
        A prompt with the span 'context', the text, and, where it is answered, 'answer', the answer and its full stop.

    Raises:
        UntestableError: if the tokenizer cannot express it.
    """
    return first_usable(lambda: _drawn(words, rng, like, sentences, chat, answered))


def _drawn(words: Vocabulary, rng: random.Random, like: str, sentences: int, chat: bool, answered: bool) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    relation = rng.choice(_RELATIONS)
    subject = rng.choice(of_partition("train", list(relation.pairs), "conflict"))
    learned = relation.pairs[subject]
    others = [value for value in relation.objects if value != learned and words.single(value) is not None]
    if words.single(learned) is None or not others:
        raise UntestableError(f"{learned!r} or all other answers are more than one token")
    wrong = rng.choice(others)
    story, place = stories.sentences(sentences, rng, NAMES), rng.randint(0, sentences)
    claim, asked = facts.worded_like(relation, "claims", like), rng.choice(relation.questions)

    def write(told: str, said: str) -> tuple[Segment, ...]:
        return (
            *segments(*story[:place], *facts.fill(claim, start=False, subject=subject, object=told), "."),
            *segments(*story[place:], " Question:", *facts.fill(asked, start=False, subject=subject), " Answer:"),
            *(segments((f" {said}", "answer"), (".", "answer")) if answered else ()),
        )

    pairs = ((wrong, wrong), (learned, learned), (wrong, learned), (learned, wrong))
    true, corrupted, *false = in_same_places(words, *(write(*pair) for pair in pairs))
    question, answer = (
        true.spans[next(number for number, part in enumerate(write(wrong, wrong)) if part.text == text)][0]
        for text in (" Question:", " Answer:")
    )
    right, *rivals = (
        words.one_token(f" {value}") for value in (wrong, learned, *(value for value in others if value != wrong))
    )
    end = Readout(len(true.ids) - 1, right, tuple(rivals))
    spans = {"context": tuple(range(len(words.bos), question))}
    made = Prompt(
        true.ids,
        corrupted.ids,
        readouts=() if answered else (end,),
        alternatives={name: each.ids for name, each in zip(CONTRADICTING, false, strict=True)} if answered else {},
        spans=spans | {"answer": tuple(true.covers("answer"))} if answered else spans,
    )
    return in_chat(words, made, opening=len(true.ids) - answer) if chat else made
