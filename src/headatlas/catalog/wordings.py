"""Where a text uses the terms of the glossary."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from headatlas.catalog.problems import Problem
from headatlas.catalog.schema import HeadType, Strict, Term

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog

_KINDS = ("heads", "methods", "benchmarks", "circuits")
# Fields that pages show as prose in which terms are linked.
_PROSE = frozenset(
    "summary definition criterion qk ov statement why note about property_why needs smallest_why open_questions "
    "threshold_why procedure pitfalls steps".split()
)
_NOT_LINKED = frozenset({"expected"})  # pages show these in small print


class Use(NamedTuple):
    """A term in a text, from `start` to before `end`."""

    term: str
    start: int
    end: int


class Wordings:
    """All wordings of the terms of a glossary.

    Where two wordings begin at one place, the longer one counts: 'logit difference' is no use of 'logit'. Names of head
    types count as one word: 'attention sink' is no use of 'attention'.
    """

    def __init__(self, terms: Iterable[Term], heads: Iterable[HeadType] = ()) -> None:
        self._terms = list(terms)
        self._heads = list(heads)

    def uses(self, text: str) -> Iterator[Use]:
        """Every use of a term in a text, in order."""
        for found in self._pattern.finditer(text):
            _, term = self._forms[(found.lastindex or 0) - 1]
            if term:
                yield Use(term, *found.span())

    @cached_property
    def _forms(self) -> list[tuple[str, str | None]]:
        """Each wording with its term; None for the name of a head type. Longest first."""
        own = {form: term.id for term in self._terms for form in forms_of(term)}
        names = {form for head in self._heads for form in _names_of(head)} - set(own)
        every: Mapping[str, str | None] = {**dict.fromkeys(names), **own}
        return sorted(every.items(), key=lambda each: (-len(each[0]), each[0]))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = "|".join(f"({_expression(form)})" for form, _ in self._forms)  # one group each
        return re.compile(rf"(?<![\w-])(?:{parts or '(?!)'})(?![\w-])")


def forms_of(term: Term) -> list[str]:
    """The wordings of a term: its name without what stands in brackets, and its forms."""
    name = re.sub(r"\s*\([^)]*\)", "", term.name)
    return list(dict.fromkeys((uncapitalised(name), *term.forms)))


def prose(entity: Strict) -> Iterator[str]:
    """The texts of an entity that pages show as prose."""
    for name in type(entity).model_fields:
        if name in _NOT_LINKED:
            continue
        value = getattr(entity, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Strict):
                yield from prose(part)
            elif isinstance(part, str) and name in _PROSE:
                yield part


def check(catalog: "Catalog") -> Iterator[Problem]:
    """Two terms with one wording, and terms that no page links or that are wrongly said to be linked by none."""
    owners: dict[str, str] = {}
    for number, term in enumerate(catalog.glossary.values()):
        for form in forms_of(term):
            if (other := owners.setdefault(form, term.id)) != term.id:
                yield Problem("glossary.yaml", f"glossary.{number}.forms", f"{form!r} is also a form of {other}")
    wordings = Wordings(catalog.glossary.values(), catalog.heads.values())
    used = {
        use.term
        for kind in _KINDS
        for entity in getattr(catalog, kind).values()
        for text in prose(entity)
        for use in wordings.uses(text)
    }
    for number, term in enumerate(catalog.glossary.values()):
        if term.id not in used and term.elsewhere is None:
            advice = "add the wording to `forms`, or say in `elsewhere` where a reader meets the term"
            yield Problem("glossary.yaml", f"glossary.{number}", f"no entry uses {term.id!r} in its prose; {advice}")
        if term.id in used and term.elsewhere is not None:
            yield Problem("glossary.yaml", f"glossary.{number}.elsewhere", f"entries use {term.id!r}; drop the line")


def _names_of(head: HeadType) -> Iterator[str]:
    for name in (head.name, *(alias.name for alias in head.aliases)):
        plain = uncapitalised(name)
        for form in (plain, plain.removesuffix(" head")):
            if " " in form:
                yield form


def uncapitalised(name: str) -> str:
    """As the name stands inside a sentence; abbreviations such as 'OV matrix' keep their capitals."""
    return name[0].lower() + name[1:] if name[1:2].islower() else name


def _expression(form: str) -> str:
    first = f"[{form[0].upper()}{form[0]}]" if form[0].islower() and len(form) > 1 else re.escape(form[0])
    return first + re.sub(r"(?:\\ )+", r"\\s+", re.escape(form[1:])) + "s?"
