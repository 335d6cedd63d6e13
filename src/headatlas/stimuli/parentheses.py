"""Lines of code that lack one to three closing parentheses.

After the task of rai2025failure: "print(str(160" lacks two.
"""

import random
from collections.abc import Sequence

from headatlas.stimuli.cases import first_usable, segments, tokenize
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

CLOSERS: tuple[str, ...] = (")", "))", ")))", "))))")  # the i-th closes i + 1 parentheses
OPENERS: tuple[str, ...] = ("(", "((")
NUMBERS: tuple[str, ...] = tuple(map(str, range(100, 1000)))


def unclosed(words: Vocabulary, lead: str, function: str, rng: random.Random) -> Prompt:
    """A line that lacks one to three closing parentheses, each as often; read at its end.

    Functions are called within functions, each with one parenthesis. In the corrupted prompt one call has two: as many
    tokens and functions, and one parenthesis more. The readout's answer is the token that closes all, its rivals the
    three that close another number up to four. The span 'open' holds the tokens that open.

    For a tokenizer that writes every parenthesis apart, see `one_by_one`.

    Args:
        words: vocabulary of the model.
        lead: text up to the first function, which it ends with; {value} in it is the innermost argument, a number.
        function: name of the inner functions.
        rng: draws numbers and the call that changes.

    Raises:
        UntestableError: if the tokenizer joins a parenthesis to a word.
    """
    if any(len(words.continuation(text)) != 1 for text in (*CLOSERS, *OPENERS)):
        return one_by_one(words, lead, function, rng)
    closers = [words.continuation(text)[0] for text in CLOSERS]

    def draw() -> Prompt:
        missing, value = rng.randint(1, len(closers) - 1), rng.choice(NUMBERS)
        changed = rng.randrange(missing)
        opened = ["("] * missing
        start = lead.replace("{value}", value)
        (tokens, places), (corrupted, _) = (
            _written(words, start, each, function, value)
            for each in (opened, [*opened[:changed], "((", *opened[changed + 1 :]])
        )
        rivals = tuple(each for each in closers if each != closers[missing - 1])
        readout = Readout(len(tokens) - 1, closers[missing - 1], rivals)
        return Prompt(tokens, corrupted, readouts=(readout,), spans={"open": places})

    return first_usable(draw)


def one_by_one(words: Vocabulary, lead: str, function: str, rng: random.Random) -> Prompt:
    """A line whose parentheses are closed, or closed but for one, for a tokenizer that writes every one apart.

    Functions are called within functions, or follow each other behind a comma: "print(str(160)" lacks one parenthesis,
    "print(str,160)" none. The answer is another parenthesis, or the end of the line; the other of the two is its rival,
    and the answer in the corrupted prompt, where one comma has become a parenthesis, or the reverse.

    Args:
        words, lead, function, rng: as in `unclosed`.

    Raises:
        UntestableError: if a parenthesis, a comma or the end of a line is several tokens, or joined to a word.
    """
    for text in (")", "(", ",", "\n"):
        if len(words.continuation(text)) != 1:
            raise UntestableError(f"the tokenizer has no token {text!r}")
    another, end = (words.continuation(text)[0] for text in (")", "\n"))

    def draw() -> Prompt:
        nested = [rng.choice("(,") for _ in range(rng.randint(1, len(CLOSERS) - 1))]
        changed = rng.randrange(len(nested))
        other = [*nested[:changed], "," if nested[changed] == "(" else "(", *nested[changed + 1 :]]
        closed = min(each.count("(") for each in (nested, other)) + 1  # with the first one, which never changes
        value = rng.choice(NUMBERS)
        start = lead.replace("{value}", value)
        (tokens, places), (corrupted, _) = (
            _written(words, start, ["(", *each], function, value + ")" * closed) for each in (nested, other)
        )
        answer, rival = (another, end) if nested[changed] == "(" else (end, another)
        return Prompt(tokens, corrupted, readouts=(Readout(len(tokens) - 1, answer, (rival,)),), spans={"open": places})

    return first_usable(draw)


def _written(
    words: Vocabulary, lead: str, opened: Sequence[str], function: str, value: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of a line, and where its calls open."""
    names = [*(function for _ in opened[1:]), value]
    inner = [part for sign, name in zip(opened, names, strict=True) for part in ((sign, "open"), name)]
    made = tokenize(words, segments(lead, *inner))
    if made.ids != words.prompt(lead + "".join(part if isinstance(part, str) else part[0] for part in inner)):
        raise UntestableError("the tokenizer joins a parenthesis to a word")
    return made.ids, tuple(made.at("open"))
