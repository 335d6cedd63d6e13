"""Ranks all heads by attribution patching, then measures the top ones, and a random sample of the rest, exactly.

The estimate is first order: (replacement z - z) times the gradient of the behaviour with respect to z
(nanda2023attribution, syed2023attribution). It needs one forward and one backward pass for all heads. It is wrong where
the model is not linear, so it only selects what to measure; the random sample shows what it missed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from headatlas.arrays import Array
from headatlas.lab.ablation.first_order import attribution_patching
from headatlas.lab.ablation.replacement import AblationKind, EditPositions
from headatlas.lab.ablation.sweeps import Sweep, sweep
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone
from headatlas.lab.running.metrics import Metric
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Screening:
    """Heads ranked by estimate, and the exact effects measured afterwards.

    Attributes:
        estimate: [layer head], mean attribution over prompts. For ranking only.
        exact: sweep of the verified heads; NaN for all others.
        top: heads with the largest estimates, strongest first; all verified.
        sample: heads drawn at random from the rest; all verified.
        rank_correlation: Spearman correlation between estimate and exact mean effect over verified heads; NaN for fewer
            than three.
        threshold: absolute mean effect from which a head counts, in units of the behaviour.
        missed: heads of the sample that count.
        miss_rate: share of heads outside `top` that count, estimated from the sample; NaN without one.
        miss_interval: its 95% interval, exact for a sample without replacement.
    """

    estimate: Array
    exact: Sweep
    top: tuple[Head, ...]
    sample: tuple[Head, ...]
    rank_correlation: float
    threshold: float
    missed: tuple[Head, ...]
    miss_rate: float
    miss_interval: tuple[float, float]


def screen(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | ZValues = "resample",
    positions: EditPositions = "all",
    *,
    minus_corrupted: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    top: int = 20,
    sample: int = 20,
    threshold: float | None = None,
    seed: int = 0,
    memory: int | None = None,
    progress: OnDone | None = None,
) -> Screening:
    """Estimate the effect of every head, then measure the `top` largest and `sample` random others exactly.

    Args:
        model: to run.
        prompts: with readouts.
        metric: a metric with a gradient.
        ablation, positions, minus_corrupted, source, memory: as in `sweep`.
        top: number of heads to verify because of a large estimate.
        sample: number of other heads to verify, to learn what the estimate misses.
        threshold: absolute mean effect from which a head counts; by default the smallest among the top, so that a
            missed head is one that belongs among them.
        seed: of the random sample.
        progress: called with the number of (head, prompt) pairs measured since the last call.

    Raises:
        HeadatlasError: as in `attribution_patching` and `sweep`.
    """
    if top < 1 or sample < 0:
        raise ValueError(f"top is {top} and sample {sample}; give at least 1 for top and at least 0 for sample")
    estimates = attribution_patching(
        model, prompts, metric, ablation, positions, minus_corrupted=minus_corrupted, source=source
    )
    estimate = estimates.estimate.mean(-1)
    best, others, rest = _chosen(estimate, top, sample, seed)
    exact = sweep(
        model,
        prompts,
        metric,
        ablation,
        positions,
        heads=best + others,
        minus_corrupted=minus_corrupted,
        source=source,
        memory=memory,
        progress=progress,
    )
    return _judged(estimate, exact, best, others, rest, threshold)


def _chosen(estimate: Array, top: int, sample: int, seed: int) -> tuple[list[Head], list[Head], int]:
    """The heads with the largest estimates, some of the others at random, and how many others there are."""
    order = [Head(int(layer), int(head)) for layer, head in np.argwhere(np.isfinite(estimate))]
    order.sort(key=lambda head: (-abs(estimate[head]), head))
    best, rest = order[:top], order[top:]
    drawn = np.random.default_rng(seed).choice(len(rest), min(sample, len(rest)), replace=False)
    return best, [rest[number] for number in sorted(drawn)], len(rest)


def _judged(
    estimate: Array, exact: Sweep, best: list[Head], others: list[Head], rest: int, threshold: float | None
) -> Screening:
    """Compare the estimates with the exact effects, and say what the estimates missed."""
    effect, verified = exact.effect.mean(-1), best + others  # [layer head]
    least = min(abs(effect[head]) for head in best) if threshold is None else threshold
    missed = tuple(head for head in others if abs(effect[head]) >= least)
    return Screening(
        estimate,
        exact,
        tuple(best),
        tuple(others),
        _rank_correlation([estimate[head] for head in verified], [effect[head] for head in verified]),
        float(least),
        missed,
        len(missed) / len(others) if others else float("nan"),
        _share_interval(len(missed), len(others), rest),
    )


def _rank_correlation(one: Iterable[float], other: Iterable[float]) -> float:
    from scipy import stats  # takes a third of a second, which `import headatlas.lab` should not

    ranks = [stats.rankdata(list(each)) for each in (one, other)]
    if len(ranks[0]) < 3 or any(np.ptp(each) == 0 for each in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _share_interval(hits: int, drawn: int, total: int) -> tuple[float, float]:
    """95% interval of the share of hits among `total`, given `hits` of `drawn` drawn without replacement.

    Contains the counts that a hypergeometric test at 2.5% per side does not reject; a single point if all were drawn.
    """
    if total == 0:
        return 0.0, 0.0
    from scipy import stats

    possible = np.arange(hits, total - (drawn - hits) + 1)
    at_least, at_most = (stats.hypergeom(total, possible, drawn) for _ in range(2))
    kept = possible[(at_least.sf(hits - 1) > 0.025) & (at_most.cdf(hits) > 0.025)]
    return float(kept.min() / total), float(kept.max() / total)
