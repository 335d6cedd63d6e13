"""Identity rules: triples of words in which the third is the first again (ABA) or the second (ABB), and a last one
without its third word.

After the tasks and the pairs of contexts of yang2025emergent, whose tokens are pieces of words in random order; the
words are our own.
"""

import random
from typing import Literal, NamedTuple

from headatlas.stimuli.cases import Segment, first_usable, in_same_places, segments
from headatlas.stimuli.lexicon import THINGS
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

RULES: tuple[str, str] = ("ABA", "ABB")
SHOTS = 5
Source = Literal["other rule", "other question", "other examples"]


class _Text(NamedTuple):
    """A prompt: its rule, the two words of each example, and the two words of the last triple."""

    rule: str
    examples: list[tuple[str, str]]
    question: tuple[str, str]

    def segments(self, marks: tuple[str, str]) -> tuple[Segment, ...]:
        mark, end = marks
        made: list[Segment] = []
        for first, second in self.examples:
            third = first if self.rule == "ABA" else second
            made += segments(f" {first}", mark, f" {second}", mark, (f" {third}", "third"), end)
        first, second = self.question
        return (*made, *segments((f" {first}", "A"), mark, (f" {second}", "B"), mark))

    @property
    def answer(self) -> str:
        return self.question[RULES.index(self.rule)]


def triples(words: Vocabulary, rng: random.Random, marks: tuple[str, str], corrupted: Source) -> Prompt:
    """Five triples after one rule, then the first two words of another. The answer is the third, the rival the other.

    There are three further prompts. The third words stand 30, 24, 18, 12 and 6 tokens before the end of all four.

    'other rule' has the two words of every triple in the other order and the other rule: the third words are the same,
    and so is the right answer, but they have the other role. 'other question' has the last two words in the other
    order, so that the rival is right, in the same role. 'other examples' has the words of the examples in the other
    order, after the same rule: their third words are others in the same role.

    Args:
        words: vocabulary of the model.
        rng: draws the rule and the words.
        marks: text between words, and text after a triple; each a single token.
        corrupted: which of the further prompts is the corrupted one; the others are alternatives.

    Raises:
        UntestableError: if marks, or too few words, are single tokens of this tokenizer.
    """
    if any(len(words.continuation(mark)) != 1 for mark in marks):
        raise UntestableError(f"{marks[0]!r} or {marks[1]!r} is not a single token of this tokenizer")
    return first_usable(lambda: _drawn(words, rng, marks, corrupted))


def _drawn(words: Vocabulary, rng: random.Random, marks: tuple[str, str], corrupted: Source) -> Prompt:
    drawn = rng.sample(words.singles(THINGS, at_least=4 * SHOTS), 2 * SHOTS + 2)
    rule, *pairs = rng.choice(RULES), *zip(drawn[::2], drawn[1::2], strict=True)
    *examples, question = pairs
    swapped, turned = [(second, first) for first, second in examples], question[::-1]
    text = _Text(rule, examples, question)
    sources = {
        "other rule": _Text(RULES[1 - RULES.index(rule)], swapped, turned),
        "other question": _Text(rule, examples, turned),
        "other examples": _Text(rule, swapped, question),
    }
    own, *others = in_same_places(words, *(each.segments(marks) for each in (text, *sources.values())))
    ids = {name: each.ids for name, each in zip(sources, others, strict=True)}
    right, wrong = (words.continuation(f" {word}")[0] for word in (text.answer, sources["other question"].answer))
    return Prompt(
        own.ids,
        ids.pop(corrupted),
        readouts=(Readout(len(own.ids) - 1, right, (wrong,)),),
        alternatives=ids,
        spans={role: tuple(own.covers(role)) for role in ("third", "A", "B")},
    )
