"""Problems of the catalog: one line each, with file, field and what to do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from headatlas.catalog.reading import Place
from headatlas.errors import HeadatlasError


class Problem(NamedTuple):
    """One problem: the file relative to catalog/, the field (dotted, empty for the whole file), and the message.

    `line` counts from 1; None if the problem has no line of its own.
    """

    file: str
    field: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        file = self.file.removeprefix("../") if self.file.startswith("../") else f"catalog/{self.file}"
        if self.line is None:
            return f"{file}: {self.field + ': ' if self.field else ''}{self.message}"
        if not self.field:
            return f"{file}: line {self.line}: {self.message}"
        return f"{file}: {self.field}: {self.message} (line {self.line})"


class CatalogError(HeadatlasError):
    """Raised if the catalog cannot be loaded; `problems` has every problem of every file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


_ADVICE = {
    "extra_forbidden": "unknown field; remove it or check its spelling",
    "missing": "is missing; add it",
}


# What to write instead, by pydantic's error type.
_MEANT = {
    "string_type": "put text that looks like a number, true or false in quotes",
    "bool_type": "write true or false",
    "float_type": "write a finite number in digits, without a unit",
    "int_type": "write digits only",
    "date_parsing": "write YYYY-MM-DD",
}

Places = Mapping[tuple[str | int, ...], Place]


def from_validation(file: str, error: ValidationError, prefix: str = "", places: Places | None = None) -> list[Problem]:
    """Turn each pydantic error into a problem that says what to do.

    Args:
        file: path relative to catalog/.
        error: pydantic's error.
        prefix: prefix of the field, if only a part of the file was validated.
        places: line and spelling of each value in the file.
    """
    problems = []
    for detail in error.errors(include_url=False):
        field = ".".join(str(part) for part in (*([prefix] if prefix else []), *detail["loc"]))
        place, whole = _place(places or {}, detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] in _ADVICE:
            message = _ADVICE[detail["type"]]
        elif detail["type"] != "value_error":
            got = place.written if place and whole and place.written is not None else repr(detail["input"])
            meant = _MEANT.get(detail["type"])
            message = f"{message[0].lower()}{message[1:]}; got {got if len(got) <= 60 else got[:57] + '...'}"
            message += f"; {meant}" if meant else ""
        problems.append(Problem(file, field, message, place.line if place else None))
    return problems


def _place(places: Places, loc: tuple[str | int, ...]) -> tuple[Place | None, bool]:
    """The place of a field, or else of the nearest enclosing field; and True if it is the field itself."""
    for length in range(len(loc), -1, -1):
        if found := places.get(loc[:length]):
            return found, length == len(loc)
    return None, False
