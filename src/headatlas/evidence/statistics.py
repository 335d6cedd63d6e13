"""Intervals, selection under multiple testing, and matched random sets.

Arrays [layer head] hold NaN where a layer has fewer heads. Results are NaN there too; these places do not count as
tests, are never selected, and change no other number. scipy is imported where it is used: records are read without it.
"""

import itertools
import math
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headatlas.arrays import Array
from headatlas.evidence.sequential import ENOUGH_SETS
from headatlas.notation import Head

RESAMPLES = 2000
RANDOM_SETS = 200


def interval(values: Array, seed: int = 0) -> tuple[Array, Array]:
    """95% bootstrap percentile interval of the mean over the first axis.

    Args:
        values: [unit ...], at least two units.

    Returns:
        The lower and the upper end, each [...]; NaN if values are NaN.
    """
    from scipy import stats

    if len(values) < 2:
        raise ValueError("an interval needs at least two units")
    known = ~np.isnan(values).any(0)  # [...]
    if not known.all():
        ends = np.full((2, *known.shape), np.nan)
        if known.any():
            ends[:, known] = interval(values[:, known], seed)
        return ends[0], ends[1]
    rng = np.random.default_rng(seed)
    found = stats.bootstrap(
        (values,), np.mean, axis=0, n_resamples=RESAMPLES, method="percentile", batch=50, rng=rng
    ).confidence_interval
    return np.asarray(found.low, dtype=float), np.asarray(found.high, dtype=float)


def mean_interval(values: Array) -> tuple[float | None, float | None, float | None]:
    """Mean of [unit] values and its 95% interval; no mean for no units, no interval for one unit."""
    mean = float(values.mean()) if len(values) else None
    if len(values) < 2:
        return mean, None, None
    low, high = interval(values)
    return mean, float(low), float(high)


def p_above_null(score: Array, null: Array) -> Array:
    """One-sided p of a paired t test that a head's score exceeds its null.

    Args:
        score, null: [unit layer head].

    Returns:
        p [layer head]. If all differences are equal: 0 if they are positive, else 1. NaN if they are NaN.
    """
    from scipy import stats

    difference = score - null
    constant = np.ptp(difference, axis=0) < 1e-9  # smaller spreads are rounding errors
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # about constant differences, which are handled below
        p: Array = np.asarray(stats.ttest_1samp(difference, 0.0, axis=0, alternative="greater").pvalue)
    return np.where(constant, np.where(difference[0] > 0, 0.0, 1.0), p)


def q_values(p: Array) -> Array:
    """Benjamini-Hochberg adjusted p over all heads of the model: [layer head], NaN if p is NaN."""
    from scipy import stats

    known = ~np.isnan(p)
    q = np.full(p.shape, np.nan)
    if known.any():
        q[known] = stats.false_discovery_control(p[known], method="bh")
    return q


def select(score: Array, q: Array, threshold: float, fdr: float) -> list[Head]:
    """Heads with a mean score of at least the threshold and q of at most the false discovery rate, best first.

    Args:
        score, q: [layer head].
    """
    layers, heads = np.nonzero((score >= threshold) & (q <= fdr))
    found = [Head(int(layer), int(head)) for layer, head in zip(layers, heads, strict=True)]
    return sorted(found, key=lambda head: (-score[head], head))


@dataclass(frozen=True)
class MatchedSets:
    """Random sets with as many heads as were selected.

    Attributes:
        sets: distinct sets without selected heads.
        matching: 'layer': as many heads from each layer as selected there; 'size': heads from any layer, if
            too few layer-matched sets exist.
        distinct: number of all such sets.
    """

    sets: list[tuple[Head, ...]]
    matching: Literal["layer", "size"]
    distinct: int


def matched_sets(
    selected: Sequence[Head],
    every: Iterable[Head],
    seed: int,
    count: int = RANDOM_SETS,
    left_out: Iterable[Head] = (),
) -> MatchedSets:
    """Draw up to `count` distinct matched sets, or all sets if there are fewer.

    Sets are matched by layer, or only by size if fewer than 19 layer-matched sets exist.

    Args:
        selected: the heads to match.
        every: all heads of the model; layers may have different numbers of them.
        seed: seed of the draw.
        count: maximum number of sets.
        left_out: heads that could not be selected, and are in no set either.
    """
    chosen = {*selected, *left_out}
    free: dict[int, list[Head]] = {}  # by layer
    for head in sorted({*every} - chosen):
        free.setdefault(head.layer, []).append(head)
    per_layer = Counter(head.layer for head in selected)
    by_layer = [(free.get(layer, []), number) for layer, number in sorted(per_layer.items())]
    distinct = math.prod(math.comb(len(pool), number) for pool, number in by_layer)
    if distinct >= ENOUGH_SETS:
        return MatchedSets(_draw(by_layer, distinct, count, seed), "layer", distinct)
    anywhere = [([head for pool in free.values() for head in pool], len(selected))]
    distinct = math.comb(len(anywhere[0][0]), len(selected))
    return MatchedSets(_draw(anywhere, distinct, count, seed), "size", distinct)


def _draw(pools: list[tuple[list[Head], int]], distinct: int, count: int, seed: int) -> list[tuple[Head, ...]]:
    if distinct <= count:
        parts = [list(itertools.combinations(pool, number)) for pool, number in pools]
        return [tuple(itertools.chain(*combination)) for combination in itertools.product(*parts)] if distinct else []
    rng = random.Random(seed)
    found: dict[tuple[Head, ...], None] = {}
    while len(found) < count:
        found[tuple(head for pool, number in pools for head in sorted(rng.sample(pool, number)))] = None
    return list(found)


def count_reaching(effect: float, others: Iterable[float]) -> int:
    """How many of the effects of random sets are at least as large as an effect."""
    return sum(other >= effect for other in others)


def exceeds(effect: float, others: Sequence[float]) -> tuple[float, float]:
    """Compare an effect with the effects of random sets.

    Returns:
        The percentage of random sets that the effect exceeds, and the permutation p, (1 + as large) / (1 + all).
    """
    as_large = count_reaching(effect, others)
    share = 100.0 * (1 - as_large / len(others)) if others else 0.0
    return share, (1 + as_large) / (1 + len(others))


def overlap_p(found: int, reported: int, both: int, heads: int) -> float:
    """Hypergeometric p that `found` random heads include at least `both` of the `reported` heads."""
    from scipy import stats

    return float(stats.hypergeom.sf(both - 1, heads, reported, found))
