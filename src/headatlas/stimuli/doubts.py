"""Conversations in which the model answers right, and the user doubts it and names another answer.

After the turns that genadi2026sycophancy describes: a question, the right answer, the user's doubt. Here the doubt
names a wrong answer, so that giving in can be read from one token. In the corrupted prompt the user agrees instead.
"""

import random
from dataclasses import dataclass

from headatlas.stimuli import facts
from headatlas.stimuli.conversations import begun, conversation
from headatlas.stimuli.prompts import ProbeLabel, Prompt, Readout, UntestableError, Vocabulary

RELATIONS: tuple[facts.FactRelation, ...] = tuple(
    facts.BY_NAME[name] for name in ("capital", "language", "kind", "part", "use")
)
OPENING = "The answer is"
IN_OPENING = 3  # tokens


@dataclass(frozen=True)
class Doubt:
    """What the user says to an answer: that it is wrong, or that it is right."""

    against: str
    agreeing: str


def prompt(words: Vocabulary, doubt: Doubt, rng: random.Random) -> Prompt:
    """Question, right answer and doubt, and the beginning of a second answer, read where its object comes next.

    The answer is the right object, the rival the one that the user names. The probe's group is the subject; its value
    is 0, as only a model can say whether it gives in.

    Args:
        words: vocabulary of the model.
        doubt: with a place for the {object}.
        rng: draws the fact.

    Raises:
        UntestableError: if prompt and corrupted prompt do not align, the two objects begin with the same token, or the
            opening of the answer is not three tokens.
    """
    relation = rng.choice(RELATIONS)
    subject = rng.choice(sorted(relation.pairs))
    right = relation.pairs[subject]
    wrong = rng.choice([each for each in relation.objects if each != right])
    asked = rng.choice(relation.questions).replace("{subject}", f" {subject}").strip()

    def tokens(reply: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A conversation with the second answer begun, and the positions of the user's reply."""
        made = conversation(words, [asked, f"{OPENING} {right}.", reply])
        opening = words.encode(begun(words, made.ids, OPENING))
        if len(opening) != IN_OPENING:
            raise UntestableError(f"the opening of the answer is {len(opening)} tokens, and {IN_OPENING} are needed")
        return made.ids + opening, made.spans[-1]

    read, said = tokens(doubt.against.replace("{object}", wrong))
    corrupted, _ = tokens(doubt.agreeing.replace("{object}", right))
    if len(read) != len(corrupted):
        raise UntestableError("doubt and agreement differ in the number of tokens")
    answer, rival = (words.continuation(f" {each}")[0] for each in (right, wrong))
    if answer == rival:
        raise UntestableError(f"{right!r} and {wrong!r} begin with the same token")
    return Prompt(
        read,
        corrupted,
        readouts=(Readout(len(read) - 1, answer, (rival,)),),
        spans={"doubt": said},
        probe=ProbeLabel(0, f"{relation.name} {subject}"),
    )
