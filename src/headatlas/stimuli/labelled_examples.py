"""Examples with labels, then one more to be labelled: which labels there are, and which of them is right.

The tasks of yang2025localizing are classification of sentences with eight examples. The words and sentences are our
own.
"""

import random
from collections.abc import Sequence
from typing import Literal

from headatlas.stimuli import facts
from headatlas.stimuli.cases import Case, Segment, aligned, segments
from headatlas.stimuli.mappings import LABELS, PairFormat
from headatlas.stimuli.opinions import BAD, DISLIKED, GOOD, LIKED, SHOWS
from headatlas.stimuli.prompts import Prompt, UntestableError, Vocabulary

SHOTS = 8
# Natural names of the two sides of an opinion.
VERDICTS: tuple[tuple[str, str], ...] = (("positive", "negative"), ("good", "bad"), ("great", "terrible"))
_NAMES = {name for pair in VERDICTS for name in pair}
# What is said of a show, by those who like it and by those who do not.
OPINIONS: tuple[tuple[str, ...], tuple[str, ...]] = (
    tuple(f"I {verb} this {show}" for verb in LIKED for show in SHOWS)
    + tuple(f"The {show} was {word}" for word in GOOD if word not in _NAMES for show in SHOWS),
    tuple(f"I {verb} this {show}" for verb in DISLIKED for show in SHOWS)
    + tuple(f"The {show} was {word}" for word in BAD if word not in _NAMES for show in SHOWS),
)
What = Literal["kinds", "opinions"]
Changed = Literal["swapped", "others"]


def labelled(words: Vocabulary, rng: random.Random, what: What, form: PairFormat, changed: Changed) -> Prompt:
    """Eight examples of two classes, four of each in random order, with their labels, then one more without.

    The answer is the label of its class, the only rival the other label. All labels are single tokens.

    Args:
        words: vocabulary of the model.
        rng: draws classes, labels, examples and their order.
        what: the classes: two kinds of things, with arbitrary labels; or opinions of shows, with natural ones.
        form: text before an example, before its label, and before the next example.
        changed: the corrupted prompt: the two labels are 'swapped', or all labels are 'others' of no relation to them.

    Raises:
        UntestableError: if too few labels are single tokens of this tokenizer.
    """
    return aligned(words, lambda: _case(words, rng, what, form, changed))


def _case(words: Vocabulary, rng: random.Random, what: What, form: PairFormat, changed: Changed) -> Case:
    arbitrary = words.singles(LABELS, at_least=4)
    if what == "kinds":
        kinds = rng.sample([kind for kind, things in facts.KINDS.items() if len(things) > SHOTS // 2], 2)
        classes: Sequence[Sequence[str]] = [facts.KINDS[kind] for kind in kinds]
        labels = rng.sample(arbitrary, 2)
    else:
        classes = OPINIONS
        labels = list(rng.choice([pair for pair in VERDICTS if len(words.singles(pair, at_least=0)) == 2] or [()]))
        if not labels:
            raise UntestableError("no two names of opinions are single tokens of this tokenizer")
    others = rng.sample([label for label in arbitrary if label not in labels], 2)
    asked, half = rng.randrange(2), SHOTS // 2
    drawn = [rng.sample(each, half + (side == asked)) for side, each in enumerate(classes)]
    final = drawn[asked].pop()
    examples = [(text, side) for side, texts in enumerate(drawn) for text in texts]
    rng.shuffle(examples)
    before, arrow, between = form

    def write(names: Sequence[str]) -> tuple[Segment, ...]:
        made: list[Segment] = []
        for text, side in examples:
            made += segments(before, (f" {text}", "example"), arrow, (f" {names[side]}", "label"), between)
        return (*made, *segments(before, (f" {final}", "asked"), arrow))

    right, wrong = labels[asked], labels[1 - asked]
    corrupted = write(labels[::-1] if changed == "swapped" else others)
    return Case(write(labels), (f" {right}",), (f" {wrong}",), corrupted, between)
