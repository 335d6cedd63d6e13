"""Which known head types a list of heads is: against the share of all heads of the model that have each name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import Census
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics
from headatlas.notation import Head

FDR = 0.05
Source = Literal["census", "papers"]


@dataclass(frozen=True)
class Match:
    """How a list of heads overlaps with the heads of one type.

    Attributes:
        type: id of the head type.
        source: who says which heads have it: our census of the model, or papers.
        shared: heads of the list that have the name, in the order of the list.
        named: heads of the model that have the name.
        share: of the list, that has the name.
        background: share of all heads of the model that have it.
        p: hypergeometric, that as many random heads share at least as many.
        q: p corrected over all types of both sources (Benjamini-Hochberg).
    """

    type: str
    source: Source
    shared: tuple[str, ...]
    named: int
    share: float
    background: float
    p: float
    q: float

    @property
    def stands(self) -> bool:
        """Whether the list has the name more often than chance."""
        return self.q <= FDR


def identify(
    heads: Sequence[Head], every: int, census: Census | None, reported: Mapping[str, set[Head]]
) -> list[Match]:
    """Compare a list of heads with every type that some head of the model has.

    Args:
        heads: the list, each once.
        every: how many heads the model has.
        census: of the model, where there is one.
        reported: what papers report of the model: the heads of each type.

    Returns:
        One for each type and source, the least likely by chance first.

    Raises:
        HeadatlasError: where neither source names a head.
    """
    known: dict[tuple[str, Source], set[str]] = {}
    for id, its in reported.items():
        known[id, "papers"] = {str(head) for head in its}
    for each in census.heads if census else ():
        for label in each.labels:
            known.setdefault((label.type, "census"), set()).add(each.head)
    if not known:
        raise HeadatlasError("no head of this model has a name yet; `headatlas census MODEL` names them")
    mine = [str(head) for head in heads]
    shared = {which: tuple(head for head in mine if head in its) for which, its in known.items()}
    p = np.array([statistics.overlap_p(len(mine), len(known[which]), len(shared[which]), every) for which in known])
    found = [
        Match(
            type=which[0],
            source=which[1],
            shared=shared[which],
            named=len(known[which]),
            share=len(shared[which]) / len(mine),
            background=len(known[which]) / every,
            p=float(chance),
            q=float(corrected),
        )
        for which, chance, corrected in zip(known, p, statistics.q_values(p), strict=True)
    ]
    return sorted(found, key=lambda match: (match.p, -match.share, match.type))


def reported_heads(catalog: Catalog, model: str) -> dict[str, set[Head]]:
    """The heads of a model that papers report, by type; only findings that support the type count."""
    found: dict[str, set[Head]] = {}
    for entry in catalog.heads.values():
        for finding in entry.findings:
            if finding.model == model and finding.stance == "supports" and finding.heads:
                found.setdefault(entry.id, set()).update(finding.heads)
    return found
