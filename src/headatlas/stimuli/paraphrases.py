"""Questions of equal meaning in different words, about people and things that no training text tells of."""

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
    """Two people are asked about, one thing of each, and answers given; then one is asked about in other words.

    The last question means the same as an earlier one, whose answer is right and the other's wrong; or, where not
    `same`, it joins a person and a thing that both came before, but not together, and no answer is right: then that
    given for the person is marked.

    Args:
        rng: draws people, things, answers, and their order.
        first: a question of ASKED; both are asked about at first in the wording of its place.
        then: a question of ASKED; one is asked about again in the wording of its place.
        same: whether that was asked before.
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
