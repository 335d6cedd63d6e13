"""Head notation: reads the forms that papers and tools use, and always writes `L5H10`.

Every public function that takes heads reads them with `heads_of`, or one with `Head.parse`.

Layers and heads count from 0.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from headatlas.errors import HeadatlasError

_LARGEST = 9999  # far above any real model; rejects absurd input

_FORMS = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        r"L(?P<layer>\d+)\s*H(?P<head>\d+)",  # L5H10
        r"(?P<layer>\d+)\.(?P<head>\d+)",  # 5.10
        r"a(?P<layer>\d+)\.h(?P<head>\d+)",  # a5.h10
        r"(?P<layer>\d+)-(?P<head>\d+)",  # 5-10
        r"\(\s*(?P<layer>\d+)\s*,\s*(?P<head>\d+)\s*\)",  # (5, 10)
        r"blocks\.(?P<layer>\d+)\.attn\.hook_\w+\[(?P<head>\d+)\]",  # blocks.5.attn.hook_z[10]
    )
)


class Head(NamedTuple):
    """One attention head: its layer and its index in the layer, both from 0."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"

    @classmethod
    def parse(cls, text: Any) -> "Head":
        """Read a head from text such as 'L5H10', '5.10', 'a5.h10', '5-10', '(5, 10)' or a pair of integers.

        Raises:
            HeadatlasError: for anything else. Numbers are rejected: as a number, 5.10 is 5.1.
        """
        if isinstance(text, Head):
            return text
        if isinstance(text, tuple | list) and len(text) == 2 and all(type(part) is int for part in text):
            return cls._checked(text[0], text[1], text)
        if isinstance(text, float | int):
            raise HeadatlasError(
                f"{text!r} is a number, not a head (5.10 would read as 5.1); write it as text, such as 'L5H10'"
            )
        if isinstance(text, str) and len(text) <= 64:
            for form in _FORMS:
                if match := form.fullmatch(text.strip()):
                    return cls._checked(int(match["layer"]), int(match["head"]), text)
        shown = repr(text)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise HeadatlasError(f"{shown} is not a head; write it as L<layer>H<head>, both from 0, such as L5H10")

    @classmethod
    def _checked(cls, layer: int, head: int, text: Any) -> "Head":
        if not (0 <= layer <= _LARGEST and 0 <= head <= _LARGEST):
            raise HeadatlasError(f"{text!r} is not a head: layer and head must be between 0 and {_LARGEST}")
        return cls(layer, head)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> "Head":
            try:
                return cls.parse(value)
            except HeadatlasError as error:
                raise ValueError(str(error)) from None

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^L\d+H\d+$", "examples": ["L5H10"]}


HeadLike = Head | str  # text in any form that Head.parse reads
HeadsLike = HeadLike | Iterable[HeadLike]


def heads_of(given: HeadsLike) -> list[Head]:
    """Read one head or several, in the order given: each a Head, or text such as 'L5H10'.

    Raises:
        HeadatlasError: for anything that `Head.parse` does not read.
    """
    return [Head.parse(each) for each in one_or_several(given)]


def one_or_several(given: Any) -> list[Any]:
    """The parts of a sequence; a head or text is one part, although both are sequences, as is any other object."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, Head | str) else [given]
