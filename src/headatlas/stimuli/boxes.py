"""Things in boxes, and a question for what one box contains.

After the task of prakash2024finetuning: "The apple is in Box F, the bread is in Box A. Box A contains the".
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase

from headatlas.stimuli.cases import Segment, segments, tokenize
from headatlas.stimuli.lexicon import THINGS
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

ORDINALS: tuple[str, ...] = ("First", "Second", "Third", "Fourth", "Fifth")
VERBS: tuple[str, ...] = ("contains", "has")  # the first that is one token is used


def contents(words: Vocabulary, count: int, numbered: bool, rng: random.Random) -> Prompt:
    """Things in `count` boxes, and a question for one of them; read at its end, after ' contains the'.

    The answer is the thing in the box asked for. Its rivals are the things in the others; the first rival is that of
    another box, here called the other one, which the corrupted prompt asks for. The corrupted prompt has other things
    and other labels, and asks for the other one's place.

    Alternatives: 'same place' has the things and labels of the corrupted prompt and asks for the place that the prompt
    asks for; 'other box' has the prompt's own things and labels, and asks for the other one.

    Spans: 'asked', the label in the question, three tokens before the readout's; 'label', the same label in the list;
    'thing', the answer in the list.

    Args:
        words: vocabulary of the model.
        count: number of boxes, two to five.
        numbered: write a sentence for each box, which begins with an ordinal; else one sentence for all.
        rng: draws words and places.

    Raises:
        UntestableError: if the tokenizer has too few things or labels, or no verb, as single tokens.
    """
    [verb, *_] = words.singles(VERBS, at_least=1)
    if len(words.continuation(" the")) != 1:
        raise UntestableError("' the' is several tokens")
    things = rng.sample(words.singles(THINGS, at_least=2 * count), 2 * count)
    labels = rng.sample(words.singles(ascii_uppercase, at_least=2 * count), 2 * count)
    place, other = rng.sample(range(count), 2)
    own, foreign = (things[:count], labels[:count]), (things[count:], labels[count:])

    def written(listed: tuple[list[str], list[str]], asked: int) -> tuple[Segment, ...]:
        told = zip(*listed, strict=True)
        parts = [part for number, pair in enumerate(told) for part in _told(number, *pair, numbered)]
        return segments(*parts, ". Box", (f" {listed[1][asked]}", "asked"), f" {verb} the")

    read, corrupted, same_place, other_box = (
        tokenize(words, written(*each)) for each in ((own, place), (foreign, other), (foreign, place), (own, other))
    )
    first, *rest = (words.continuation(f" {own[0][number]}")[0] for number in _others_last(count, place, other))
    end = len(read.ids) - 1
    return Prompt(
        tokens=read.ids,
        corrupted=corrupted.ids,
        readouts=(Readout(end, first, tuple(rest)),),
        alternatives={"same place": same_place.ids, "other box": other_box.ids},
        spans={
            "asked": (read.at("asked")[0],),
            "label": (read.at("label")[place],),
            "thing": (read.at("thing")[place],),
        },
    )


def against_other_place(prompt: Prompt) -> Prompt:
    """The prompt with one rival alone, the thing in the box whose place the corrupted prompt asks for."""
    [readout] = prompt.readouts
    return replace(prompt, readouts=(replace(readout, rivals=readout.rivals[:1]),))


def _told(number: int, thing: str, label: str, numbered: bool) -> Sequence[str | tuple[str, str]]:
    """One box of the list, without the sign that ends it."""
    if numbered:
        start = f"{' ' if number else ''}{ORDINALS[number]}, the"
        return ("." if number else ""), start, (f" {thing}", "thing"), " is in Box", (f" {label}", "label")
    return (", the" if number else "The"), (f" {thing}", "thing"), " is in Box", (f" {label}", "label")


def _others_last(count: int, place: int, other: int) -> list[int]:
    """The numbers of all boxes: the one asked for, the other one, and the rest."""
    return [place, other, *(number for number in range(count) if number not in (place, other))]
