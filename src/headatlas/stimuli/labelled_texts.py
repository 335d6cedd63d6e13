"""Classification by examples: short texts of two classes, each with its label, and one more text to be labelled."""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli import facts, opinions
from headatlas.stimuli.cases import Segment, tokenize
from headatlas.stimuli.extractive_questions import THINGS
from headatlas.stimuli.lexicon import NAMES, PLACES
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

EXAMPLES = 4


class TextClasses(NamedTuple):
    """Two classes of texts.

    Attributes:
        before, between: what stands before a text, and between it and its label; it ends with the forerunner token.
        labels: of the two classes, each with a leading space.
        text: (rng, class 0 or 1) -> a text of the class, with a leading space.
    """

    before: str
    between: str
    labels: tuple[str, str]
    text: Callable[[random.Random, int], str]


def _review(rng: random.Random, side: int) -> str:
    words, verbs = ((opinions.GOOD, opinions.LIKED), (opinions.BAD, opinions.DISLIKED))[side]
    show, adjective, verb = rng.choice(opinions.SHOWS), rng.choice(words), rng.choice(verbs)
    return f" the {show} was {adjective} and I {verb} it."


def _topic(rng: random.Random, side: int) -> str:
    kind = ("animal", "food")[side]
    one, other = rng.sample(facts.KINDS[kind], 2)
    return (f" the {one} and the {other} were asleep.", f" we had {one} with {other}.")[side]


def _question(rng: random.Random, side: int) -> str:
    name, thing, place = rng.choice(NAMES), rng.choice(THINGS), rng.choice(PLACES)
    return (f" who took the {thing} from {name}?", f" where did {name} leave the {thing}, in the {place}?")[side]


TASKS: Mapping[str, TextClasses] = MappingProxyType(
    {
        "reviews": TextClasses("Review:", " Label:", (" good", " bad"), _review),
        "topics": TextClasses("Text:", " Topic:", (" animal", " food"), _topic),
        "questions": TextClasses("Question:", " Type:", (" person", " place"), _question),
    }
)


def labelled(words: Vocabulary, rng: random.Random, task: TextClasses) -> Prompt:
    """Labelled texts, two of each class in random order, and another one; read where its label comes next.

    Returns:
        A prompt that is its own corrupted prompt. The rival is the other label. Pairs lead from the first token of each
        label to the forerunner token, which is the one before it. Null pairs lead from the tokens of the last text to
        the ones before them.

    Raises:
        UntestableError: where the labels begin with the same token.
    """
    sides = [0, 1] * (EXAMPLES // 2)
    rng.shuffle(sides)
    sides.append(asked := rng.randrange(2))
    texts = list[str]()
    while len(texts) < len(sides):
        if (text := task.text(rng, sides[len(texts)])) not in texts:
            texts.append(text)
    parts = list[Segment]()
    for side, text in zip(sides[:-1], texts[:-1], strict=True):
        parts += [Segment(task.before + text + task.between), Segment(task.labels[side], role="label"), Segment("\n")]
    parts += [Segment(task.before), Segment(texts[-1], role="text"), Segment(task.between)]
    read = tokenize(words, parts)
    answer, rival = (words.continuation(task.labels[side])[0] for side in (asked, 1 - asked))
    if answer == rival:
        raise UntestableError(f"the labels{task.labels[0]} and{task.labels[1]} begin with the same token")
    labels = [start for (start, _), role in zip(read.spans, read.roles, strict=True) if role == "label"]
    return Prompt(
        read.ids,
        read.ids,
        pairs=tuple((place, place - 1) for place in labels),
        null_pairs=tuple((place, place - 1) for place in read.covers("text")),
        readouts=(Readout(len(read.ids) - 1, answer, (rival,)),),
        spans={"label": tuple(labels), "text": tuple(read.covers("text"))},
    )


def with_its_label(prompt: Prompt) -> Prompt:
    """A prompt of `labelled` with its last label; its only pair leads from there to the token before it."""
    (readout,) = prompt.readouts
    read, end = (*prompt.tokens, readout.answer), len(prompt.tokens)
    return Prompt(read, read, pairs=((end, end - 1),), null_pairs=prompt.null_pairs, spans=prompt.spans)
