"""Reads YAML as it looks: numbers as in JSON, everything else as text; reports what other readers read differently.

YAML 1.1 reads `010` as eight, `12:30` as 750, `no` as false, `1e3` as text, and cuts `figure #2` at the `#`. This
reader takes a plain word as a number, true, false or null only if it looks like one to everybody. It reports as a
fault, with its line: text that a program could read as another number, text that a comment cuts off, anchors, tags and
escapes.

This module is long because it is one reader, with the faults that it reports.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMERIC = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_UNDERSCORES = re.compile(r"[-+]?(?=[0-9.]*_)[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_OTHER_BASE = re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+")
_WORDS = {
    word: value for name, value in (("true", True), ("false", False)) for word in (name, name.title(), name.upper())
}
_CUT = re.compile(r"[ \t]+#(.*)")  # after the text
_CUT_BELOW = re.compile(r"[ \t]*\n(?:[ \t]*\n)*( +)#(.*)")
_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*(\\[0abtnvfre_NLP])(\w*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_MOST_REPEATS = 100_000

Key = tuple[str | int, ...]


class Fault(NamedTuple):
    """A fault in a file: the dotted field, the line (from 1), and the message."""

    field: str
    line: int
    message: str


class Place(NamedTuple):
    """The line of a value (from 1), and its spelling if it is a plain word."""

    line: int
    written: str | None


class Read(NamedTuple):
    """A file as plain data, its faults, and a function that gives the place of each value."""

    data: Any
    faults: list[Fault]
    places: Callable[[], dict[Key, Place]]


def text_of(path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is not UTF-8; the message gives the line and what to do.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"byte 0x{raw[error.start]:02x} in line {line} is not UTF-8; save the file as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read(text: str) -> Read:
    """Read one YAML document.

    Raises:
        yaml.YAMLError: if the text is not YAML.
        RecursionError: if the text is nested too deeply.
    """
    reader = _Reader(text)
    data = reader.document()

    def places() -> dict[Key, Place]:
        again = _Reader(text, {})
        again.document()
        return again.places or {}

    return Read(data, reader.faults, places)


class _Reader:
    """Builds plain data from the events of one file."""

    def __init__(self, text: str, places: dict[Key, Place] | None = None) -> None:
        self.text, self.places = text, places
        self.faults: list[Fault] = []
        self._path: list[str | int] = []
        self._anchors: dict[str, Any] = {}
        self._repeats = 0
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_PARSER))

    def document(self) -> Any:
        """The one document of the file."""
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        data = self._value(next(self._events), 0, False)
        next(self._events)  # the end of the document
        after: Any = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _error(after, "a second document begins; put it into its own file")
        return data

    def _value(self, event: Any, indent: int, flow: bool) -> Any:
        """The value that begins with an event; `indent` is the column of its key or dash."""
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event)
        if event.anchor is not None and isinstance(event, yaml.ScalarEvent) and not event.style:
            self._fault(event, f"&{event.anchor} is an anchor and not part of the text; put the text in quotes")
        if event.tag is not None and event.tag != "!":  # "!" is how the pure-Python parser marks quoted text
            self._fault(event, f"{event.tag} is a tag and not part of the text; put the text in quotes")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, indent, flow)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = list(self._items(event))
        else:
            value = self._mapping(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        if self.places is not None:
            written = event.value if isinstance(event, yaml.ScalarEvent) and not event.style else None
            self.places[tuple(self._path)] = Place(event.start_mark.line + 1, written)
        return value

    def _repeated(self, event: Any) -> Any:
        """The value at an anchor, again. Repeated repetitions must not fill the memory."""
        if event.anchor not in self._anchors:
            raise _error(event, f"*{event.anchor} repeats an anchor that does not exist; put the text in quotes")
        value = self._anchors[event.anchor]
        self._repeats += _size(value)
        if self._repeats > _MOST_REPEATS:
            raise _error(event, "anchors repeat too much; write the values out")
        return value

    def _items(self, start: Any) -> Iterator[Any]:
        event: Any
        number = 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._path.append(number)
            yield self._value(event, start.start_mark.column, start.flow_style)
            self._path.pop()
            number += 1

    def _mapping(self, start: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        key: Any
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.anchor or key.value == "<<":
                raise _error(key, "a key is one word of text, without anchor or merge; write the fields out")
            if key.value in made:
                raise _error(key, f"the key {key.value!r} is written twice; keep one of them")
            self._path.append(key.value)
            column: int = key.start_mark.column  # type: ignore[union-attr]
            made[key.value] = self._value(next(self._events), column, start.flow_style)
            self._path.pop()
        return made

    def _scalar(self, event: Any, indent: int, flow: bool) -> Any:
        written: str = event.value
        source = self.text[event.start_mark.index : event.end_mark.index] if event.style == '"' else ""
        if found := _ESCAPE.search(source):
            self._fault(
                event,
                f"{found[1]}{found[2]} begins with an escape in double quotes; write a backslash in single quotes, "
                "and several lines as a block after |",
            )
        elif _CONTROL.search(written):
            self._fault(event, "contains a control character; remove it")
        if event.style:
            return written
        value = self._plain(event, written)
        if isinstance(value, str):
            self._cut(event, indent, flow)
        return value

    def _plain(self, event: Any, written: str) -> Any:
        """The value of an unquoted word."""
        if written in _WORDS:
            return _WORDS[written]
        if written == "null":
            return None
        if written in ("", "~", "Null", "NULL"):
            said = f"{written} means no value" if written else "has no value"
            return self._fault(event, f"{said}; write a value, drop the field, or put text in quotes")
        return self._number(event, written) if written[0] in _NUMERIC else written

    def _number(self, event: Any, written: str) -> Any:
        try:
            if _INTEGER.fullmatch(written):
                _finite(float(written))
                return int(written)
            if _FLOAT.fullmatch(written):
                return _finite(float(written))
        except (OverflowError, ValueError):
            return self._fault(event, f"{written[:20]} is too large for a number; put text in quotes")
        if _UNDERSCORES.fullmatch(written):
            return self._fault(
                event, f"{written} is a number to some programs; {_either(written.replace('_', ''), written)}"
            )
        if _LEADING_ZERO.fullmatch(written):
            return self._fault(event, f"{written} is an octal number to some programs; {_either(written, written)}")
        if _OTHER_BASE.fullmatch(written):
            return self._fault(
                event, f"{written} is a number to some programs; write a decimal number, or '{written}' in quotes"
            )
        return written

    def _cut(self, event: Any, indent: int, flow: bool) -> None:
        """Report a comment that a reader would read as part of the text."""
        end = event.end_mark.index
        cut = _CUT.match(self.text, end)
        if cut is None and not flow:
            below = _CUT_BELOW.match(self.text, end)
            cut = below if below and len(below[1]) > indent else None
        if cut:
            rest = cut[cut.re.groups].strip()
            shown = event.value if len(event.value) <= 30 else f"…{event.value[-29:]}"
            self._fault(
                event,
                f"the text ends at {shown!r}, before `#{rest[:20]}`, which is a comment; put the text in quotes, "
                "or the comment on a line of its own, no deeper than the key",
            )

    def _fault(self, event: Any, message: str) -> None:
        self.faults.append(Fault(".".join(map(str, self._path)), event.start_mark.line + 1, message))


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _size(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, inner))


def _either(number: str, written: str) -> str:
    """How to write the number without leading zeros, and how to write the text."""
    number = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", number)
    return f"write {number}, or '{written}' in quotes for text"


def _finite(value: float) -> float:
    if math.isinf(value):
        raise OverflowError
    return value
