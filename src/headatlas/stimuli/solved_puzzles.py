"""Small puzzles of propositional logic: two rules, three facts, and a question, after some that are solved.

The task of hong2024how. One rule has two premises, of which one is true and one is false; the other rule has one
premise, which is true. So the question decides which true fact a proof starts with.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli import ordinals
from headatlas.stimuli.cases import Case, Segment, fill_roles, first_usable, in_place, segments
from headatlas.stimuli.prompts import Prompt, Vocabulary

LETTERS: tuple[str, ...] = ordinals.CLASSES["letters"]


class Wording(NamedTuple):
    """How a rule of one premise, a rule of two, and the question are written."""

    one: str
    two: str
    question: str


WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "implies": Wording(
            "{premise} implies{conclusion}",
            "{premise} or{second} implies{conclusion}",
            " Question: state the truth value of{conclusion}.",
        ),
        "if": Wording(
            " If{premise} then{conclusion}",
            " If{premise} or{second} then{conclusion}",
            " Question: what is the truth value of{conclusion}?",
        ),
        "follows": Wording(
            "{conclusion} follows from{premise}",
            "{conclusion} follows from{premise} or{second}",
            " Question: can{conclusion} be shown?",
        ),
    }
)


@dataclass(frozen=True)
class Rule:
    """A rule, the premise of it that is true, and the one that is false where there are two.

    Attributes:
        conclusion, true: letters.
        false: a letter, or "".
        false_first: whether the false premise is written first.
    """

    conclusion: str
    true: str
    false: str = ""
    false_first: bool = False


@dataclass(frozen=True)
class Puzzle:
    """Two rules, and the facts in the order in which they are written: a letter and whether it is true."""

    rules: tuple[Rule, Rule]
    facts: tuple[tuple[str, bool], ...]


def draw(rng: random.Random, letters: Sequence[str] = LETTERS) -> Puzzle:
    """A puzzle of five different letters; rules, premises and facts in random order."""
    first, false, both, second, one = rng.sample(letters, 5)
    rules = [Rule(both, first, false, rng.random() < 0.5), Rule(one, second)]
    facts = [(first, True), (false, False), (second, True)]
    rng.shuffle(rules)
    rng.shuffle(facts)
    return Puzzle((rules[0], rules[1]), tuple(facts))


def problem(puzzle: Puzzle, asked: int, wording: Wording) -> tuple[Segment, ...]:
    """Rules, facts and question, up to 'Answer:'; `asked` is the number of the rule whose conclusion is asked for.

    The role of each segment says what it is: 'right premise' and 'right letter' the letter that the answer begins
    with, in its rule and in its fact, 'right rest' the rest of that fact; 'other …' the same for the rule that is not
    asked for; 'query' the letter in the question; 'rest' everything else.
    """
    names = {puzzle.rules[asked].true: "right", puzzle.rules[1 - asked].true: "other"}
    made = [Segment("Rules:", role="rest")]
    for rule in puzzle.rules:
        made += [*_written(rule, wording, names[rule.true]), Segment(".", role="rest")]
    made.append(Segment(" Facts:", role="rest"))
    for letter, true in puzzle.facts:
        name = names.get(letter)
        made.append(Segment(f" {letter}", role=f"{name} letter" if name else "rest"))
        made.append(Segment(f" is {'true' if true else 'false'}.", role=f"{name} rest" if name else "rest"))
    made += fill_roles(wording.question, {"conclusion": (f" {puzzle.rules[asked].conclusion}", "query")})
    made.append(Segment(" Answer:"))
    return tuple(part if part.role else replace(part, role="rest") for part in made)


def solved(puzzle: Puzzle, asked: int, wording: Wording) -> tuple[Segment, ...]:
    """The same with its proof: the true fact, the rule, and what follows. No segment has a role."""
    rule = puzzle.rules[asked]
    whole = [*problem(puzzle, asked, wording), Segment(f" {rule.true}"), Segment(" is true.")]
    whole += [*_written(rule, wording, ""), Segment(";"), Segment(f" {rule.conclusion}"), Segment(" is true.\n")]
    return tuple(Segment(part.text) for part in whole)


def puzzle_case(rng: random.Random, wording: Wording, letters: Sequence[str] = LETTERS, examples: int = 4) -> Case:
    """Some solved puzzles and one to be solved. The corrupted prompt asks for the conclusion of the other rule.

    As many of the solved puzzles ask for a rule of two premises as for one of one premise (hong2024how).
    """
    kinds = [number % 2 for number in range(examples)]
    rng.shuffle(kinds)
    shown: list[Segment] = []
    for kind in kinds:
        example = draw(rng, letters)
        asked = next(number for number, rule in enumerate(example.rules) if bool(rule.false) == bool(kind))
        shown += solved(example, asked, wording)
    last, asked = draw(rng, letters), rng.randrange(2)
    right, other = (last.rules[number].true for number in (asked, 1 - asked))
    return Case(
        segments(*shown, *problem(last, asked, wording)),
        (f" {right}",),
        (f" {other}",),
        segments(*shown, *problem(last, 1 - asked, wording)),
    )


def puzzle_prompt(words: Vocabulary, rng: random.Random, wording: Wording, examples: int = 4) -> Prompt:
    """A puzzle as a prompt, read where its proof comes next.

    Fewer puzzles are solved before it, one at least, where the tokenizer says that its model reads no more tokens.

    Returns:
        A prompt with a span for every role of `problem`, and 'problem' for the whole of the puzzle to be solved.

    Raises:
        UntestableError: where the tokenizer has too few letters that are one token.
    """
    letters = words.singles(LETTERS, at_least=10)
    room = getattr(words.tokenizer, "model_max_length", None) or float("inf")

    def make(count: int) -> Prompt:
        made, _ = in_place(words, puzzle_case(rng, wording, letters, count))
        if len(made.tokens) > room and count > 1:
            return make(count - 1)
        start = min(place for places in made.spans.values() for place in places)
        return replace(made, spans={**made.spans, "problem": tuple(range(start, len(made.tokens)))})

    return first_usable(lambda: make(examples))


def _written(rule: Rule, wording: Wording, name: str) -> tuple[Segment, ...]:
    """A rule; its premise that is true gets the role '<name> premise'."""
    true, false = (f" {rule.true}", f"{name} premise"), (f" {rule.false}", "")
    first, second = (false, true) if rule.false_first else (true, false)
    parts = {"premise": first, "second": second, "conclusion": (f" {rule.conclusion}", "")}
    return fill_roles(wording.two if rule.false else wording.one, parts)
