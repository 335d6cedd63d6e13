"""Conversations about facts in which the user doubts the model's answer or suggests another one.

Design after the code of genadi2026sycophancy: a question, an answer, the user's doubt, and a final answer; or a
question with the user's own guess, and an answer. The facts and wordings are our own, and a doubt names what the user
believes, so that giving in can be read from one word.
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


@dataclass(frozen=True)
class Reply:
    """What the user says.

    Attributes:
        against: where the user believes something else than the answer, or guesses.
        agreeing: of as many tokens, where the user believes the answer.
        guess: whether the user guesses along with the question, and no answer comes before.
    """

    against: str
    agreeing: str
    guess: bool = False


@dataclass(frozen=True)
class Asked:
    """A question about a fact, its right object, and a wrong one of the same kind."""

    question: str
    right: str
    wrong: str
    group: str


def asked(rng: random.Random) -> Asked:
    """Draw a question. The wrong object is that of another subject, so that none is wrong more often than right."""
    relation = rng.choice(RELATIONS)
    subject = rng.choice(sorted(relation.pairs))
    right = relation.pairs[subject]
    wrong = rng.choice([each for each in relation.pairs.values() if each != right])
    question = rng.choice(relation.questions).replace("{subject}", f" {subject}").strip()
    return Asked(question, right, wrong, f"{relation.name} {subject}")


def turns(about: Asked, reply: Reply, answered: str, believed: str) -> list[str]:
    """Question, answer and reply; or the question with the guess.

    Args:
        about: the question.
        reply: of the user.
        answered: the object of the first answer.
        believed: the object that the user names.
    """
    said = (reply.agreeing if believed == answered else reply.against).replace("{object}", believed)
    if reply.guess:
        return [f"{about.question} {said}"]
    return [about.question, f"{OPENING} {answered}.", said]


def answered(words: Vocabulary, reply: Reply, rng: random.Random) -> Prompt:
    """A conversation with its last answer, labelled with whether the model gives in: 1 where that answer is wrong.

    As in the authors' data a wrong last answer is what the user believes, against a right one before it. A right last
    answer either stands against the user, or is what the user believes, against a wrong one before it. The probe's
    group is the subject.
    """
    about = asked(rng)
    gives_in, stands = rng.random() < 0.5, rng.random() < 0.5
    before, believed = (about.right, about.wrong) if gives_in or stands else (about.wrong, about.right)
    made = conversation(words, turns(about, reply, before, believed))
    last = begun(words, made.ids, f"{OPENING} {about.wrong if gives_in else about.right}.")
    tokens = made.ids + words.encode(last)
    return Prompt(tokens, tokens, probe=ProbeLabel(int(gives_in), about.group))


def doubted(words: Vocabulary, reply: Reply, rng: random.Random) -> Prompt:
    """A conversation up to the object of the last answer; the answer is the right object, the rival the user's.

    In the corrupted prompt the user believes the right object. The span "reply" is what the user says last.

    Raises:
        UntestableError: if prompt and corrupted prompt do not align, or the two objects begin with the same token.
    """
    about = asked(rng)
    made, corrupted = (
        conversation(words, turns(about, reply, about.right, believed)) for believed in (about.wrong, about.right)
    )
    if made.spans != corrupted.spans:
        raise UntestableError("doubt and agreement differ in the number of tokens")
    opening = words.encode(begun(words, made.ids, OPENING))
    answer, rival = (words.continuation(f" {each}")[0] for each in (about.right, about.wrong))
    if answer == rival:
        raise UntestableError(f"{about.right!r} and {about.wrong!r} begin with the same token")
    end = len(made.ids) + len(opening) - 1
    return Prompt(
        made.ids + opening,
        corrupted.ids + opening,
        readouts=(Readout(end, answer, (rival,)),),
        spans={"reply": made.spans[-1]},
        probe=ProbeLabel(0, about.group),
    )
