"""Multiple choice questions: options with letters, answered by the letter of the right one."""

import random
from collections.abc import Sequence
from dataclasses import replace

from headatlas.stimuli import facts
from headatlas.stimuli.cases import Case, Partition, Segment, in_partition, of_partition, others, segments
from headatlas.stimuli.lexicon import COLORS, THINGS

LETTERS: tuple[str, ...] = ("A", "B", "C", "D")
MARKS: tuple[str, ...] = (".", ":", ")")


def options(words: list[str], mark: str) -> tuple[Segment, ...]:
    """The options after their letters: ' A. dog B. milk'."""
    made: list[Segment] = []
    for letter, word in zip(LETTERS, words, strict=False):
        made += segments((f" {letter}", "letter"), mark, (f" {word}", "option"))
    return tuple(made)


def letters(split: Partition, rng: random.Random) -> Case:
    """Options, then the letters of some of them, or the words of some letters; the skill without a question.

    The corrupted prompt lists the options in another order.
    """
    words = rng.sample(of_partition(split, THINGS, "option"), 4)
    moved = [*words[1:], words[0]]
    mark = rng.choice(MARKS)
    by_word = rng.random() < 0.75
    asked = rng.sample(range(4), rng.randint(2, 4))

    def write(order: list[str]) -> tuple[Segment, ...]:
        made = [Segment("Options:"), *options(order, mark), Segment(".")]
        for place, number in enumerate(asked):
            word = words[number] if by_word else order[number]
            letter = LETTERS[order.index(word)]
            asks, gives = (f" {word}", f" {letter}") if by_word else (f" {letter}", f" {word}")
            made += [Segment(asks, role="asked"), Segment(":")]
            if place < len(asked) - 1:
                made += [Segment(gives, known=True, role="given"), Segment(",")]
        return tuple(made)

    number = asked[-1]
    if by_word:
        return Case(
            write(words),
            (f" {LETTERS[number]}",),
            tuple(f" {letter}" for letter in LETTERS if letter != LETTERS[number]),
            write(moved),
        )
    rivals = tuple(f" {word}" for word in words if word != words[number])
    return Case(write(words), (f" {words[number]}",), rivals, write(moved))


def relabelled(parts: Sequence[Segment], letters: Sequence[str]) -> tuple[Segment, ...]:
    """Replace the options' letters by these, in this order."""
    given = iter(letters)
    return tuple(replace(part, text=f" {next(given)}") if part.role == "letter" else part for part in parts)


def multiple_choice(split: Partition, rng: random.Random, kind: str | None = None, count: int = 4) -> Case:
    """A question, options with letters, and the letter of the right one.

    `kind` is the source of the answer: a `fact`, a fact of the `real` world, a word just `told`, or a `color` just
    mentioned. In the corrupted prompt the options move up by one place (the first to the end), so that the right letter
    is the preceding one.
    """
    of = kind or rng.choices(("told", "color", "fact"), (0.3, 0.3, 0.4))[0]
    ahead, right, words = {"fact": _fact, "real": _real, "told": _told, "color": _color}[of](split, rng)
    order = rng.sample(words[:count], count)
    moved = [*order[1:], order[0]]
    mark = rng.choice(MARKS)

    late = kind is None and rng.random() < 0.4  # an easier form for training: the question right before the answer

    def write(listed: list[str]) -> tuple[Segment, ...]:
        if late:
            first, *rest = ahead
            asked = (Segment(f" {first.text.lstrip()}", role=first.role), *rest)
            return (Segment("Options:"), *options(listed, mark), Segment("."), *asked, Segment(" Answer:"))
        return (*ahead, *options(listed, mark), Segment(" Answer:"))

    letter = LETTERS[order.index(right)]
    rivals = tuple(f" {other}" for other in LETTERS[:count] if other != letter)
    return Case(write(order), (f" {letter}",), rivals, write(moved))


def _real(split: Partition, rng: random.Random) -> tuple[tuple[Segment, ...], str, list[str]]:
    return _fact(split, rng, ("capital", "language", "kind"))


def _fact(
    split: Partition, rng: random.Random, of: tuple[str, ...] = ("capital", "language", "kind", "work")
) -> tuple[tuple[Segment, ...], str, list[str]]:
    relation = rng.choice([facts.BY_NAME[name] for name in of])
    subject = rng.choice([each for each in relation.pairs if in_partition(split, "choice", relation.name, each)])
    right = relation.pairs[subject]
    ask = facts.fill(rng.choice(relation.questions), start=False, subject=subject)
    return (Segment("Question:"), *ask), right, [right, *others(relation.objects, right, rng, 3)]


def _told(split: Partition, rng: random.Random) -> tuple[tuple[Segment, ...], str, list[str]]:
    words = rng.sample(of_partition(split, THINGS, "option"), 4)
    said = rng.choice(("The right word is", "Choose the", "The answer is the"))
    return segments(said, (f" {words[0]}", "told"), "."), words[0], words


def _color(split: Partition, rng: random.Random) -> tuple[tuple[Segment, ...], str, list[str]]:
    colors = rng.sample(COLORS, 4)
    thing = rng.choice(of_partition(split, THINGS, "option"))
    said = segments("There is a", (f" {colors[0]}", "told"), f" {thing}. Question: What color is the", f" {thing}", "?")
    return said, colors[0], colors
