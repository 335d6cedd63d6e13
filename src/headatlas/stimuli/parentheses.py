"""Lines of code that lack one to four closing parentheses."""

import random
from collections.abc import Sequence

from headatlas.stimuli.cases import first_usable, segments, tokenize
from headatlas.stimuli.prompts import Prompt, Readout, UntestableError, Vocabulary

CLOSERS: tuple[str, ...] = (")", "))", ")))", "))))")  # the i-th closes i + 1 parentheses
OPENERS: tuple[str, ...] = ("(", "((")
FUNCTIONS: tuple[str, ...] = tuple("abs int float round max min sum len str".split())
VARIABLES: tuple[str, ...] = tuple("x y n a b items values data total count".split())
NUMBERS: tuple[str, ...] = tuple(map(str, range(100, 1000)))


def unclosed(
    words: Vocabulary, lead: str, functions: Sequence[str], values: Sequence[str], rng: random.Random
) -> Prompt:
    """A line that lacks one to four closing parentheses, each as often; read at its end.

    Functions are called within functions, each with one or with two parentheses. In the corrupted prompt one call has
    the other number of them, so that as many tokens lack one parenthesis more or fewer. The readout's answer is the
    token that closes all, its rivals the three that close another number. The span 'open' holds the tokens that open.

    Args:
        words: vocabulary of the model.
        lead: text up to the first function, which it ends with; {value} in it is the innermost argument.
        functions: names of the inner functions.
        values: innermost arguments.
        rng: draws numbers and words.

    Raises:
        UntestableError: if the tokenizer writes two to four parentheses as several tokens.
    """
    for text in (*CLOSERS, *OPENERS):
        if len(words.continuation(text)) != 1:
            raise UntestableError(f"the tokenizer has no token {text!r}")
    closers = [words.continuation(text)[0] for text in CLOSERS]

    def draw() -> Prompt:
        missing = rng.randint(1, len(closers))
        calls = _calls(missing, rng)
        changed = rng.choice([each for each in _changes(calls) if 1 <= sum(each) <= len(closers)])
        value = rng.choice(values)
        names = [rng.choice(functions) for _ in calls[1:]]
        start = lead.replace("{value}", value)
        (tokens, places), (corrupted, _) = (_written(words, start, each, names, value) for each in (calls, changed))
        rivals = tuple(each for each in closers if each != closers[missing - 1])
        readout = Readout(len(tokens) - 1, closers[missing - 1], rivals)
        return Prompt(tokens, corrupted, readouts=(readout,), spans={"open": places})

    return first_usable(draw)


def _calls(missing: int, rng: random.Random) -> list[int]:
    """How many parentheses each call opens, one or two; at least one way is left to change one call."""
    fewest, most = (missing + 1) // 2, min(missing, len(CLOSERS) - 1)
    calls = rng.randint(fewest, most)
    doubles = missing - calls
    return rng.sample([2] * doubles + [1] * (calls - doubles), calls)


def _changes(calls: list[int]) -> list[list[int]]:
    """The same calls with one of them opening the other number of parentheses."""
    return [[*calls[:place], 3 - calls[place], *calls[place + 1 :]] for place in range(len(calls))]


def _written(
    words: Vocabulary, lead: str, calls: list[int], names: list[str], value: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of a line, and where its calls open."""
    opened = [(OPENERS[count - 1], "open") for count in calls]
    inner = [part for pair in zip(opened, [*names, value], strict=True) for part in pair]
    made = tokenize(words, segments(lead, *inner))
    whole = lead + "".join(part if isinstance(part, str) else part[0] for part in inner)
    if made.ids != words.prompt(whole):
        raise UntestableError("the tokenizer joins a parenthesis to a word")
    return made.ids, tuple(made.at("open"))
