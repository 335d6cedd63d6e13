"""Puzzles in propositional logic: two rules over letters, three facts, and the question for one conclusion.

Design after hong2024how: the answer is the fact from which the proof starts. No letter occurs in two puzzles of a
prompt, so that a letter of the last puzzle leads to that puzzle alone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headatlas.stimuli.cases import Segment, Tokens, in_same_places
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

LETTERS: tuple[str, ...] = tuple("BCDEFGHJKLMNOPQRSTUVWXYZ")  # A and I are words
IN_PUZZLE = 5
AFTER = 3  # tokens from the queried letter to the end: '.', ' Answer', ':'


@dataclass(frozen=True)
class Wording:
    """How a puzzle is written: what stands before the rules, in them, before the facts, and before the queried letter.

    Attributes:
        rules: before the first rule.
        either: a rule with two premises, in three pieces around them and before its conclusion.
        single: a rule with one premise, in two pieces.
        facts: before the first fact.
        ask: before the queried letter.
    """

    rules: str
    either: tuple[str, str, str]
    single: tuple[str, str]
    facts: str
    ask: str


WORDINGS: dict[str, Wording] = {
    "implies": Wording(
        "Rules:", ("", " or", " implies"), ("", " implies"), " Facts:", " Question: state the truth value of"
    ),
    "if then": Wording("Rules:", (" If", " or", " then"), (" If", " then"), "", " What of"),
    "arrows": Wording("Rules:", ("", " or", " ->"), ("", " ->"), "", " Question:"),
}


@dataclass(frozen=True)
class Puzzle:
    """One puzzle.

    Attributes:
        letters: the two premises and the conclusion of one rule, the premise and the conclusion of the other; each
            with a leading space.
        true: which of the first two letters is true, 0 or 1; the other is false. The fourth letter is true.
        either_first: whether the rule with two premises is written first.
        facts: in which order the facts about letters 0, 1 and 3 are written.
        either_asked: whether the rule with two premises is asked for.
    """

    letters: tuple[str, ...]
    true: int
    either_first: bool
    facts: tuple[int, ...]
    either_asked: bool

    @property
    def answer(self) -> str:
        """The letter that the proof starts from."""
        return self.letters[self.true if self.either_asked else 3]

    @property
    def turned(self) -> "Puzzle":
        """The same puzzle with the question for the other rule."""
        return replace(self, either_asked=not self.either_asked)

    def reordered(self, rng: random.Random) -> "Puzzle":
        """The same puzzle with its facts in another order."""
        order = self.facts
        while order == self.facts:
            order = tuple(rng.sample(self.facts, len(self.facts)))
        return replace(self, facts=order)

    def written(self, wording: Wording) -> list[Segment]:
        """The puzzle up to 'Answer:'; the queried rule has the role 'rule', the queried letter the role 'query'."""
        one, other, third, premise, last = self.letters
        before, between, then = wording.either
        start, implies = wording.single
        either = [before, one, between, other, then, third, "."]
        single = [start, premise, implies, last, "."]
        asked = either if self.either_asked else single
        parts = [(wording.rules, "puzzle")]
        for rule in (either, single) if self.either_first else (single, either):
            parts += [(text, "rule" if rule is asked else "puzzle") for text in rule]
        parts.append((wording.facts, "puzzle"))
        for place in self.facts:
            holds = " false." if place == 1 - self.true else " true."
            parts += [(self.letters[place], "puzzle"), (f" is{holds}", "puzzle")]
        parts += [(wording.ask, "puzzle"), (third if self.either_asked else last, "query"), (". Answer:", "puzzle")]
        return [Segment(text, role=role) for text, role in parts if text]


def puzzle(letters: Sequence[str], rng: random.Random) -> Puzzle:
    """Draw a puzzle over five letters."""
    order = tuple(rng.sample((0, 1, 3), 3))
    return Puzzle(tuple(letters), rng.randrange(2), rng.random() < 0.5, order, rng.random() < 0.5)


def prompt(words: Vocabulary, wording: str, examples: int, rng: random.Random) -> Prompt:
    """A puzzle after solved ones, read at its end.

    The corrupted prompt asks for the other rule; its answer is the rival. The alternative "facts" has the facts in
    another order. Spans: "rule", the queried rule with its full stop; "query", the queried letter; "puzzle", all of the
    last puzzle.

    Args:
        words: vocabulary of the model.
        wording: a key of WORDINGS.
        examples: the number of solved puzzles; the last of them asks for the kind of rule that the puzzle does not.
        rng: draws all of it.

    Raises:
        UntestableError: if letters are not single tokens, or the text after the queried letter is not three tokens.
    """
    usable = words.singles(LETTERS, at_least=IN_PUZZLE * (examples + 1))
    drawn = rng.sample(usable, IN_PUZZLE * (examples + 1))
    *solved, asked = (
        puzzle([f" {letter}" for letter in drawn[start : start + IN_PUZZLE]], rng)
        for start in range(0, len(drawn), IN_PUZZLE)
    )
    form = WORDINGS[wording]
    lead: list[Segment] = []
    for number, each in enumerate(solved):
        shown = replace(each, either_asked=asked.either_asked != ((examples - number) % 2 == 1))
        lead += [replace(part, role="") for part in shown.written(form)]
        lead.append(Segment(f"{shown.answer} is true.\n"))

    def whole(last: Puzzle) -> list[Segment]:
        return [*lead, *last.written(form)]

    read, corrupted, other = in_same_places(
        words, *(whole(each) for each in (asked, asked.turned, asked.reordered(rng)))
    )
    return _read(words, asked, read, corrupted, other)


def _read(words: Vocabulary, asked: Puzzle, read: Tokens, corrupted: Tokens, other: Tokens) -> Prompt:
    end = len(read.ids) - 1
    (query,) = read.at("query")
    if end - query != AFTER:
        raise UntestableError(f"the text after the queried letter is {end - query} tokens, and {AFTER} are needed")
    answer, rival = (words.continuation(each.answer)[0] for each in (asked, asked.turned))
    last = [place for role in ("puzzle", "rule", "query") for place in read.covers(role)]
    return Prompt(
        read.ids,
        corrupted.ids,
        readouts=(Readout(end, answer, (rival,)),),
        alternatives={"facts": other.ids},
        spans={"rule": tuple(read.covers("rule")), "query": (query,), "puzzle": tuple(sorted(last))},
    )
