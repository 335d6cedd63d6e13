"""Reads values of BibTeX fields: text in braces or quotes, numbers and macros, joined by #."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

# Every bibliography style defines these macros. They stay, so that each style prints its own names.
MONTHS = dict(
    zip(
        "jan feb mar apr may jun jul aug sep oct nov dec".split(),
        "January February March April May June July August September October November December".split(),
        strict=True,
    )
)
_SPACE = re.compile(r"\s*")
_BARE = re.compile(r"[^\s\"#%\'(),={}\\]+")


class ValuePart(NamedTuple):
    """A piece of a value: its text, or the name of a macro."""

    kind: Literal["text", "macro"]
    text: str


def parts(value: str) -> list[ValuePart]:
    """The pieces of a raw value.

    Raises:
        ValueError: if BibTeX could not read the value; the message says why and what to do.
    """
    found: list[ValuePart] = []
    at = _skip(value, 0)
    while True:
        part, at = _part(value, at)
        found.append(part)
        at = _skip(value, at)
        if at == len(value):
            return found
        if value[at] != "#":
            rest = " ".join(value[at:].split())
            raise ValueError(f"a comma is missing before {rest[:30]!r}; or join the two texts with #")
        at = _skip(value, at + 1)


def _skip(value: str, at: int) -> int:
    space = _SPACE.match(value, at)
    return space.end() if space else at


def _part(value: str, at: int) -> tuple[ValuePart, int]:
    if at == len(value):
        raise ValueError("has no value; write one, or remove the field")
    if value[at] in '{"':
        end = _closing(value, at)
        return ValuePart("text", value[at + 1 : end]), end + 1
    if bare := _BARE.match(value, at):
        word = bare[0]
        return ValuePart("text" if word.isdigit() else "macro", word), bare.end()
    raise ValueError(f"{value[at:][:30]!r} is not a value; put text in braces")


def _closing(value: str, start: int) -> int:
    """The end of the text that opens at `start`. BibTeX counts every brace, even after a backslash."""
    quoted, depth = value[start] == '"', 0
    for at in range(start + 1 if quoted else start, len(value)):
        depth += {"{": 1, "}": -1}.get(value[at], 0)
        if depth < 0:
            raise ValueError("closes a brace that was never opened; balance the braces")
        if depth == 0 and value[at] == ('"' if quoted else "}"):
            return at
    raise ValueError("opens a brace or quote and never closes it; balance the braces")


class Macros:
    """The macros that @string entries define; names ignore case."""

    def __init__(self, defined: Mapping[str, str]) -> None:
        self._defined = {name.lower(): value for name, value in defined.items()}

    def expand(self, value: str) -> list[ValuePart]:
        """The pieces of a value with every macro expanded, except the months.

        Raises:
            ValueError: for a value that cannot be read, or a macro that is not defined.
        """
        return list(self._expand(value, ()))

    def _expand(self, value: str, within: Sequence[str]) -> list[ValuePart]:
        made: list[ValuePart] = []
        for part in parts(value):
            name = part.text.lower()
            if part.kind == "text":
                made.append(part)
            elif name in within or len(within) > 50:
                raise ValueError(f"the macro {part.text} refers to itself; write its text out")
            elif name in self._defined:
                made += self._expand(self._defined[name], (*within, name))
            elif name in MONTHS:
                made.append(ValuePart("macro", name))
            else:
                raise ValueError(
                    f"the macro {part.text} is not defined; put text in braces, or add @string{{{part.text} = …}}"
                )
        return made


def plain(expanded: Sequence[ValuePart]) -> str:
    """The text of a value, with English month names."""
    return "".join(MONTHS[part.text] if part.kind == "macro" else part.text for part in expanded)


def written(expanded: Sequence[ValuePart]) -> str:
    """A BibTeX value that needs no @string; joins adjacent texts."""
    made: list[str] = []
    for number, part in enumerate(expanded):
        if part.kind == "text" and number and expanded[number - 1].kind == "text":
            made[-1] = f"{made[-1][:-1]}{part.text}}}"
        else:
            made.append(part.text if part.kind == "macro" else f"{{{part.text}}}")
    return " # ".join(made)
