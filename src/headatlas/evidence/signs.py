"""Verdicts as signs, short names of models, and counts over models: the same in the terminal and on the site."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from headatlas.catalog.schema import VerdictLabel

# Verdicts, best first. Each has a sign, so that colour is never the only difference.
VERDICTS: Mapping[VerdictLabel, str] = MappingProxyType(
    {"reproduced": "●", "partly": "◐", "not-reproduced": "○", "inconclusive": "–"}
)
FOUND: tuple[VerdictLabel, ...] = ("reproduced", "partly")  # with them, a run names the heads that it selected
AS_EXPECTED, OTHERWISE, NOT_DECIDED = "as expected", "not as expected", "not decided"
_SHORTEST = 2  # letters of a model's short name


class Share(NamedTuple):
    """`part` of `whole`."""

    part: int
    whole: int

    def __str__(self) -> str:
        return f"{self.part}/{self.whole}"


def against(label: VerdictLabel, expected: VerdictLabel | None) -> str:
    """How a verdict compares with what was expected: one of the three phrases above, '' if nothing was expected."""
    if expected is None:
        return ""
    if label == expected:
        return AS_EXPECTED
    return NOT_DECIDED if label == "inconclusive" else OTHERWISE


def holds_in(labels: Iterable[VerdictLabel]) -> Share:
    """In how many models a finding is reproduced, of those that decide it: `inconclusive` is not counted."""
    decided = [label for label in labels if label != "inconclusive"]
    return Share(decided.count("reproduced"), len(decided))


def counted(labels: Mapping[VerdictLabel, int]) -> str:
    """The counts of verdicts as text, best first, without those that there are none of."""
    return ", ".join(f"{labels[label]} {label}" for label in VERDICTS if labels.get(label))


def as_expected(pairs: Iterable[tuple[VerdictLabel, VerdictLabel | None]]) -> Share:
    """How many of some (verdict, expected verdict) are as expected, of those that decide it."""
    said = [against(label, expected) for label, expected in pairs]
    return Share(said.count(AS_EXPECTED), sum(each in (AS_EXPECTED, OTHERWISE) for each in said))


def short_names(models: Sequence[str]) -> dict[str, str]:
    """The shortest names that tell some models apart, whatever their case.

    A name that begins with that of another model is written by what follows: 'specimen-gpt2-1' is 'G1' beside
    'specimen'.
    """
    choices = {id: list(dict.fromkeys(_choices(id, models))) for id in models}
    taken = dict.fromkeys(choices, 0)
    while True:
        names = {id: choices[id][place] for id, place in taken.items()}
        lower = [name.lower() for name in names.values()]
        longer = [
            id for id, name in names.items() if lower.count(name.lower()) > 1 and taken[id] + 1 < len(choices[id])
        ]
        if not longer:
            return names
        for id in longer:
            taken[id] += 1


def _choices(id: str, models: Sequence[str]) -> Iterator[str]:
    """Names of one model, shortest first; the last is its id."""
    before = max((each for each in models if each != id and id.startswith(f"{each}-")), key=len, default="")
    rest = id[len(before) + 1 :] if before else id
    family, *parts = re.split(r"[-_]", rest)
    if before and parts:
        yield family[:1].upper() + "".join(part if part.isdigit() else part[:1] for part in parts)
    yield from (rest[:count] for count in range(min(_SHORTEST, len(rest)), len(rest)))
    yield rest
    yield id
