"""The same types in two models, two checkpoints or two seeds; and over all recorded censuses. Plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from headatlas.arrays import Array
from headatlas.census.schema import Causal, Census, TypeResult
from headatlas.census.summary import depth
from headatlas.errors import HeadatlasError
from headatlas.evidence.homes import label
from headatlas.evidence.statistics import RESAMPLES, mean_interval
from headatlas.notation import Head

HeadPlaces = Literal["both", "only in the first", "only in the second", "neither", "not comparable"]


@dataclass(frozen=True)
class Side:
    """A type in one model.

    Attributes:
        status: 'measured', or why not.
        behaviour: whether the model can do what the type is for; None where it was not measured.
        heads: how many carry the label.
        share: of all heads, with a 95% Wilson interval `share_low` to `share_high`.
        depth: mean over the heads, 0 the first layer and 1 the last, with a 95% bootstrap interval; None without heads,
            no interval with one.
        causal: what interventions said.
    """

    status: str
    behaviour: bool | None
    heads: int
    share: float
    share_low: float
    share_high: float
    depth: float | None
    depth_low: float | None
    depth_high: float | None
    causal: Causal


@dataclass(frozen=True)
class Difference:
    """A type in two models. Depth is the second minus the first, with a 95% bootstrap interval."""

    type: str
    name: str
    stage: str
    where: HeadPlaces
    first: Side
    second: Side
    deeper: float | None
    deeper_low: float | None
    deeper_high: float | None
    note: str


def compare(first: Census, second: Census) -> list[Difference]:
    """Type by type, in the order of the first census, then those of the second alone.

    Raises:
        HeadatlasError: where they have no type in common.
    """
    left, right = ({each.id: each for each in census.types} for census in (first, second))
    if not left.keys() & right.keys():
        raise HeadatlasError("the two censuses have no type in common; take them with the same --types")
    order = [*left, *(id for id in right if id not in left)]
    return [_difference(first, second, left.get(id), right.get(id)) for id in order]


def _difference(a: Census, b: Census, left: TypeResult | None, right: TypeResult | None) -> Difference:
    known = left or right
    assert known
    first, second = _side(a, left), _side(b, right)
    one, other = depths(a, left), depths(b, right)
    low, high = _apart(one, other)
    where = _where(first, second)
    return Difference(
        type=known.id,
        name=known.name,
        stage=known.stage,
        where=where,
        first=first,
        second=second,
        deeper=float(other.mean() - one.mean()) if len(one) and len(other) else None,
        deeper_low=low,
        deeper_high=high,
        note=_note(where, *names(a, b), first, second),
    )


def _side(census: Census, found: TypeResult | None) -> Side:
    mine, all_heads = depths(census, found), census.summary.heads
    mean, low, high = mean_interval(mine)
    share_low, share_high = wilson(len(mine), all_heads)
    return Side(
        status=found.status if found else "not asked for",
        behaviour=found.behaviour.passed if found and found.behaviour else None,
        heads=len(mine),
        share=len(mine) / all_heads,
        share_low=share_low,
        share_high=share_high,
        depth=mean,
        depth_low=low,
        depth_high=high,
        causal=found.causal if found else "not tested",
    )


def depths(census: Census, found: TypeResult | None) -> Array:
    """How deep each head of a type lies: [head]."""
    heads = found.heads if found else []
    return np.array([depth(Head.parse(head).layer, census.model.layers) for head in heads], dtype=float)


def wilson(count: int, of: int) -> tuple[float, float]:
    """95% Wilson interval of a share."""
    found = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def _apart(one: Array, other: Array) -> tuple[float | None, float | None]:
    """95% bootstrap interval of the difference of the means, heads drawn anew in both; None where one has a single."""
    if len(one) < 2 or len(other) < 2:
        return None, None
    found = stats.bootstrap(
        (one, other), _mean_difference, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)


def _mean_difference(one: Array, other: Array, axis: int) -> Array:
    """The mean of the second minus the mean of the first."""
    return np.asarray(other.mean(axis) - one.mean(axis))


def _where(first: Side, second: Side) -> HeadPlaces:
    if first.status != "measured" or second.status != "measured":
        return "not comparable"
    if first.heads and second.heads:
        return "both"
    if first.heads:
        return "only in the first"
    return "only in the second" if second.heads else "neither"


def names(first: Census, second: Census) -> tuple[str, str]:
    """What to call the two models: by their names, and where these are the same with the beginning of their hashes."""
    one, other = first.model, second.model
    if one.name != other.name or label(one) == label(other):
        return one.name, other.name
    return f"{one.name} ({label(one)})", f"{other.name} ({label(other)})"


def _note(where: HeadPlaces, a: str, b: str, first: Side, second: Side) -> str:
    """Why a type is missing, as far as can be told."""
    if where == "not comparable":
        name, side = (a, first) if first.status != "measured" else (b, second)
        return f"{side.status} in {name}"
    if where in ("both", "neither"):
        return ""
    name, side = (b, second) if where == "only in the first" else (a, first)
    return ("no such head in " if side.behaviour else "behaviour absent in ") + name


@dataclass(frozen=True)
class Transfer:
    """A type over several models.

    Attributes:
        measured, able, found, supported: ids of the models in which it was measured, that can do what it is for, that
            have such heads, and in which they have a cause.
        heads: by model, how many.
        depths: by model with such heads, the mean depth.
        depth: the mean of those, with a 95% bootstrap interval over models; no interval with one model.
    """

    type: str
    name: str
    stage: str
    measured: tuple[str, ...]
    able: tuple[str, ...]
    found: tuple[str, ...]
    supported: tuple[str, ...]
    heads: dict[str, int]
    depths: dict[str, float]
    depth: float | None
    depth_low: float | None
    depth_high: float | None


def transfer(censuses: Sequence[Census]) -> list[Transfer]:
    """How far each type carries over, in the order in which censuses name types."""
    order = list(dict.fromkeys(each.id for census in censuses for each in census.types))
    by_model = [(census, {each.id: each for each in census.types}) for census in censuses]
    return [_transfer([(census, types[id]) for census, types in by_model if id in types]) for id in order]


def _transfer(rows: Sequence[tuple[Census, TypeResult]]) -> Transfer:
    known = rows[0][1]
    measured = [(census.model.id, each, census) for census, each in rows if each.status == "measured"]
    means = {id: float(depths(census, each).mean()) for id, each, census in measured if each.heads}
    mean, low, high = mean_interval(np.array(list(means.values())))
    return Transfer(
        type=known.id,
        name=known.name,
        stage=known.stage,
        measured=tuple(id for id, _, _ in measured),
        able=tuple(id for id, each, _ in measured if each.behaviour and each.behaviour.passed),
        found=tuple(means),
        supported=tuple(id for id, each, _ in measured if each.causal == "supported"),
        heads={id: len(each.heads) for id, each, _ in measured},
        depths=means,
        depth=mean,
        depth_low=low,
        depth_high=high,
    )
