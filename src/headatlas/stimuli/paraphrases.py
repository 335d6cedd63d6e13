"""Questions of equal meaning in different words, about people and things that no training text mentions."""

import random
from collections.abc import Mapping
from types import MappingProxyType

from headatlas.stimuli.cases import Case, Segment
from headatlas.stimuli.facts import ask
from headatlas.stimuli.lexicon import NAMES, THINGS

ASKED: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "secret": (
            "What is the secret of{subject}?",
            "What secret does{subject} have?",
            "For{subject}, what is the secret?",
        ),
        "password": (
            "What is the password of{subject}?",
            "What password does{subject} have?",
            "For{subject}, what is the password?",
        ),
        "gift": (
            "What is the best gift for{subject}?",
            "What gift does{subject} like?",
            "For{subject}, what is the best gift?",
        ),
    }
)


def asked_again(rng: random.Random, first: str, then: str, same: bool = True) -> Case:
    """Two people are asked about different things, with answers; then one is asked about again in another wording.

    If `same`, the last question repeats an earlier one in other words: its answer is right, the other person's is the
    rival. If not, it combines a person and a thing that were asked about separately. No answer is right then; the one
    given for that person is marked as the answer.

    Args:
        rng: draws people, things, answers, and their order.
        first: a question of ASKED; its index fixes the wording of the first two questions.
        then: a question of ASKED; its index fixes the wording of the last question.
        same: whether the last question was asked before.
    """
    people, things, answers = rng.sample(NAMES, 2), rng.sample(list(ASKED), 2), rng.sample(THINGS, 2)
    ways = [next(own.index(like) for own in ASKED.values() if like in own) for like in (first, then)]
    said: list[Segment] = []
    for number, (person, thing, answer) in enumerate(zip(people, things, answers, strict=True)):
        said += [*ask(ASKED[thing][ways[0]], person, start=number == 0), Segment(f" {answer}"), Segment(".")]
    which = rng.randrange(2)
    thing = things[which if same else 1 - which]
    return Case(
        (*said, *ask(ASKED[thing][ways[1]], people[which], start=False)),
        (f" {answers[which]}",),
        (f" {answers[1 - which]}",),
    )
