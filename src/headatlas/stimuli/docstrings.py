"""Python functions whose docstring names the arguments in order, up to where the next one comes.

After the task of heimersheim2023circuit.
"""

import random

from headatlas.stimuli.cases import Segment, Tokens, segments, tokenize
from headatlas.stimuli.lexicon import PLACES
from headatlas.stimuli.prompts import Prompt, Readout, Vocabulary

ARGUMENTS: tuple[str, ...] = tuple(
    """
    data name file value test result line user key request path output node item model response text version function
    string field start number values index error context image message size event state row files form query fields
    instance label run action target array code num table source config options update module status group content
    client results read command base format color settings order count match title parent call session token server
    host date description mode project page header option task shape load names port root
    """.split()
)
NOUNS: tuple[str, ...] = (*"price cost issue process research street table paper letter team".split(), *PLACES)
BEFORE, NAMED, AFTER = 2, 3, 1  # arguments that the docstring leaves out, those that it names in order, and the rest


def next_argument(words: Vocabulary, marker: str, defaults: bool, rng: random.Random) -> Prompt:
    """A function with six arguments; its docstring names the third and the fourth, and the fifth comes next.

    The docstring leaves out the first two, so that a line of it does not tell by its number which argument is its turn.
    The answer is the fifth argument, its rivals are the five others. In the corrupted prompt the docstring names two
    words that are no arguments, so that no argument comes next; all else is the same.

    Spans: 'turn', the fifth argument in the definition; 'arguments', all of them there; 'named', those that the
    docstring names.

    Args:
        words: vocabulary of the model.
        marker: what stands before a name in the docstring, such as ':param'.
        defaults: give every argument the default None.
        rng: draws names and words.

    Raises:
        UntestableError: if the tokenizer has too few names as single tokens.
    """
    count = BEFORE + NAMED + AFTER
    names = rng.sample(words.singles(ARGUMENTS, at_least=2 * count), count + NAMED)
    function, arguments, strangers = names[0], names[1 : 1 + count], names[1 + count :]
    turn = BEFORE + NAMED - 1
    said = rng.sample([word for word in NOUNS if word not in names], 2 * NAMED + 1)

    def written(named: list[str]) -> Tokens:
        return tokenize(words, (*_head(function, arguments, defaults, said[:3]), *_lines(marker, named, said[3:])))

    read, corrupted = written(arguments[BEFORE:turn]), written(strangers)
    ids = [words.continuation(f" {name}")[0] for name in arguments]
    end = len(read.ids) - 1
    places = tuple(read.at("argument"))
    return Prompt(
        tokens=read.ids,
        corrupted=corrupted.ids,
        readouts=(Readout(end, ids[turn], (*ids[:turn], *ids[turn + 1 :])),),
        spans={"turn": (places[turn],), "arguments": places, "named": tuple(read.at("named"))},
    )


def _head(function: str, arguments: list[str], defaults: bool, said: list[str]) -> tuple[Segment, ...]:
    """The definition and the first line of the docstring."""
    after = "=None" if defaults else ""
    listed = [part for name in arguments for part in (",", (f" {name}", "argument"), after)]
    return segments("\ndef", f" {function}", "(self", *listed, '):\n    """' + " ".join(said))


def _lines(marker: str, named: list[str], said: list[str]) -> tuple[Segment, ...]:
    """The lines about arguments, up to where the next name comes; some tokenizers join a newline to what follows."""
    told: list[str | tuple[str, str]] = [f"\n\n    {marker}"]
    for name, one, other in zip(named, said[::2], said[1::2], strict=True):
        told += [(f" {name}", "named"), ":", f" {one} {other}", f"\n    {marker}"]
    return segments(*told)
