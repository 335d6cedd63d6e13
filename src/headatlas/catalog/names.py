"""Names of head types: which name means which type, and which names are easily confused."""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator

from headatlas.catalog.problems import Problem
from headatlas.catalog.schema import HeadType

_ALIKE = 88  # rapidfuzz ratio, 0 to 100, from which two names are easily confused


def plain(name: str) -> str:
    """A name without case, accents, punctuation, and the word head: 'S-Inhibition heads' gives 's inhibition'."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    words = re.findall(r"[a-z0-9]+", letters)
    return " ".join(word for word in words if word not in ("head", "heads", "the", "a")) or " ".join(words)


def by_name(heads: Iterable[HeadType]) -> dict[str, set[str]]:
    """The ids that each plain name may mean; several ids if papers use a name for several types."""
    index: dict[str, set[str]] = {}
    for head in heads:
        for name in (head.id, head.name, *(alias.name for alias in head.aliases)):
            index.setdefault(plain(name), set()).add(head.id)
    return index


def check(heads: Iterable[HeadType]) -> Iterator[Problem]:
    """Problems with names: shared between types without a note, or easily confused."""
    heads = list(heads)
    index = by_name(heads)
    for head in heads:
        for number, alias in enumerate(head.aliases):
            others = index[plain(alias.name)] - {head.id}
            field = f"aliases.{number}.also"
            if missing := sorted(others - set(alias.also)):
                yield Problem(
                    f"heads/{head.id}.yaml", field, f"{alias.name!r} also names {', '.join(missing)}; add that here"
                )
            if extra := sorted(set(alias.also) - others):
                yield Problem(
                    f"heads/{head.id}.yaml",
                    field,
                    f"{', '.join(extra)} has no name {alias.name!r}; drop the id here, or add the name there",
                )
    for one, two in itertools.combinations(heads, 2):
        if why := _alike(one, two):
            yield Problem(f"heads/{one.id}.yaml", "distinct_from", f"{why}; say how {one.id} and {two.id} differ")


def _alike(one: HeadType, two: HeadType) -> str | None:
    """Why two types are easily confused; None if an entry states their difference or relation."""
    from rapidfuzz import fuzz  # imported here for a fast start: only checks need it

    told = {each.head for head in (one, two) for each in head.distinct_from}
    told |= {each.head for head in (one, two) for each in head.relations}
    if {one.id, two.id} & told:
        return None
    a, b = plain(one.name), plain(two.name)
    if set(a.split()) <= set(b.split()) or set(b.split()) <= set(a.split()):
        return f"the name {one.name!r} is part of {two.name!r} or the reverse"
    names = [[plain(name) for name in (each.name, *(alias.name for alias in each.aliases))] for each in (one, two)]
    for mine, theirs in itertools.product(*names):
        if mine != theirs and fuzz.ratio(mine, theirs) >= _ALIKE:
            return f"the names {mine!r} and {theirs!r} are nearly the same"
    return None
