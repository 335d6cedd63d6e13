"""Small puzzles of propositional logic: two rules, three facts, and a question, after some that are solved.

The task of hong2024how. One rule has two premises, of which one is true and one is false; the other rule has one
premise, which is true. So the question decides which true fact a proof starts with. `puzzle_prompt` shows whole proofs;
`short_puzzle_prompt` only their first fact, for small contexts.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli import ordinals
from headatlas.stimuli.cases import Case, Segment, Tokens, fill_roles, first_usable, in_place, in_same_places, segments
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

LETTERS: tuple[str, ...] = ordinals.CLASSES["letters"]
NO_WORDS: tuple[str, ...] = tuple(letter for letter in LETTERS if letter not in "AI")
IN_PUZZLE = 5  # letters
AFTER = 3  # tokens from the queried letter to the end of a short puzzle: '.', ' Answer', ':'


class Wording(NamedTuple):
    """How a rule of one premise, a rule of two, and the question are written, and what stands before the facts."""

    one: str
    two: str
    question: str
    facts: str = " Facts:"


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


# Short questions, so that the queried letter stands at one distance from the end.
SHORT_WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "implies": WORDINGS["implies"],
        "if then": Wording(
            " If{premise} then{conclusion}", " If{premise} or{second} then{conclusion}", " What of{conclusion}.", ""
        ),
        "arrows": Wording(
            "{premise} ->{conclusion}", "{premise} or{second} ->{conclusion}", " Question:{conclusion}.", ""
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
    made += segments((wording.facts, "rest"))
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


def short_puzzle_prompt(words: Vocabulary, wording: str, examples: int, rng: random.Random) -> Prompt:
    """A puzzle after some of which only the first fact of the proof is shown, read at its end.

    No letter occurs in two puzzles, so that a letter of the last one leads to that one alone. The corrupted prompt asks
    for the other rule; its answer is the rival. The alternative "facts" has the facts in another order. Spans: "rule",
    the queried rule with its full stop; "query", the queried letter; "puzzle", all of the last puzzle.

    Args:
        words: vocabulary of the model.
        wording: a key of SHORT_WORDINGS.
        examples: the number of solved puzzles; the last of them asks for the kind of rule that the puzzle does not.
        rng: draws all of it.

    Raises:
        UntestableError: if letters are not single tokens, or the text after the queried letter is not three tokens.
    """
    count, form = IN_PUZZLE * (examples + 1), SHORT_WORDINGS[wording]
    letters = rng.sample(words.singles(NO_WORDS, at_least=count), count)
    *shown, last = (draw(rng, letters[start : start + IN_PUZZLE]) for start in range(0, count, IN_PUZZLE))
    asked = rng.randrange(2)
    lead: list[Segment] = []
    for number, each in enumerate(shown):
        alike = (examples - number) % 2 == 0
        rule = next(
            place for place in (0, 1) if (bool(each.rules[place].false) == bool(last.rules[asked].false)) == alike
        )
        lead += [Segment(part.text) for part in problem(each, rule, form)]
        lead.append(Segment(f" {each.rules[rule].true} is true.\n"))
    whole = (problem(last, asked, form), problem(last, 1 - asked, form), problem(_reordered(last, rng), asked, form))
    read, corrupted, reordered = in_same_places(words, *([*lead, *part] for part in whole))
    return _read_short(words, last, asked, form, (read, corrupted, reordered), len(lead))


def _reordered(puzzle: Puzzle, rng: random.Random) -> Puzzle:
    """The same puzzle with its facts in another order."""
    order = puzzle.facts
    while order == puzzle.facts:
        order = tuple(rng.sample(puzzle.facts, len(puzzle.facts)))
    return replace(puzzle, facts=order)


def _read_short(
    words: Vocabulary, puzzle: Puzzle, asked: int, form: Wording, made: tuple[Tokens, Tokens, Tokens], lead: int
) -> Prompt:
    read, corrupted, reordered = made
    end, (query,) = len(read.ids) - 1, read.at("query")
    if end - query != AFTER:
        raise UntestableError(f"the text after the queried letter is {end - query} tokens, and {AFTER} are needed")
    answer, rival = (words.continuation(f" {puzzle.rules[rule].true}")[0] for rule in (asked, 1 - asked))
    lengths = [len(_written(rule, form, "")) + 1 for rule in puzzle.rules]  # segments, with the full stop
    first = lead + 1 + (lengths[0] if asked else 0)
    return Prompt(
        read.ids,
        corrupted.ids,
        readouts=(Readout(end, answer, (rival,)),),
        alternatives={"facts": reordered.ids},
        spans={
            "rule": tuple(range(read.spans[first][0], read.spans[first + lengths[asked] - 1][1])),
            "query": (query,),
            "puzzle": tuple(range(read.spans[lead][0], end + 1)),
        },
    )


def _written(rule: Rule, wording: Wording, name: str) -> tuple[Segment, ...]:
    """A rule; its premise that is true gets the role '<name> premise'."""
    true, false = (f" {rule.true}", f"{name} premise"), (f" {rule.false}", "")
    first, second = (false, true) if rule.false_first else (true, false)
    parts = {"premise": first, "second": second, "conclusion": (f" {rule.conclusion}", "")}
    return fill_roles(wording.two if rule.false else wording.one, parts)
