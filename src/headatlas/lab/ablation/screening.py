"""Ranks all heads by attribution patching, then measures the top ones, and a random sample of the rest, exactly.

The estimate is first order: (replacement z - z) times the gradient of the behaviour with respect to z
(nanda2023attribution, syed2023attribution). It needs one forward and one backward pass for all heads. It is wrong where
the model is not linear, so it only selects what to measure; the random sample shows what it missed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.replacement import AblationKind, EditPositions, Replacement, edited_positions
from headatlas.lab.ablation.sources import Reference
from headatlas.lab.ablation.sweeps import Sweep, sweep
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import Array, OnDone, batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import Metric
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Estimates:
    """First-order estimates of the effect of ablating each head; not a measurement.

    Attributes:
        at: per prompt [layer head position], 0 where nothing is replaced; NaN for heads that do not exist.
    """

    at: tuple[Array, ...]

    @property
    def estimate(self) -> Array:
        """Summed over positions: [layer head prompt]."""
        return np.stack([each.sum(-1) for each in self.at], -1)


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


def attribution_patching(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | Reference = "resample",
    positions: EditPositions = "all",
    *,
    minus_corrupted: bool = False,
    source: Sequence[tuple[int, ...]] | None = None,
    progress: OnDone | None = None,
) -> Estimates:
    """Estimate the effect of ablating each head: (replacement z - z) . d behaviour / d z.

    Sources: nanda2023attribution, syed2023attribution.

    Args:
        model: to run.
        prompts: with readouts.
        metric: a metric with a gradient.
        ablation: as in `sweep`; attribution patching is 'resample'.
        positions: as in `sweep`.
        minus_corrupted: estimate the effect on prompt minus corrupted prompt.
        source: as in `sweep`.
        progress: called with the number of prompts done.

    Raises:
        HeadatlasError: for a behaviour without a gradient, or prompts that do not fit, as in `sweep`.
    """
    replacement = Replacement(model, prompts, ablation, source)
    found: dict[int, Array] = {}
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        at, reference, readouts = (
            edited_positions(positions, len(batch[0].tokens)),
            replacement.of(index),
            readout_tensors(batch),
        )
        tokens, corrupted = (
            stack_tokens([prompt.tokens for prompt in batch]),
            stack_tokens([prompt.corrupted for prompt in batch]),
        )
        estimate = _first_order(model, tokens, readouts, metric, reference, at)
        if minus_corrupted:
            estimate = estimate - _first_order(model, corrupted, readouts, metric, reference, at)
        found |= dict(zip(index, estimate.cpu().numpy(), strict=True))
        if progress:
            progress(len(batch))
    return Estimates(tuple(found[number] for number in range(len(prompts))))


def _first_order(
    model: OpenModel,
    tokens: Tensor,
    readouts: tuple[Tensor, Tensor, Tensor, Tensor],
    metric: Metric,
    reference: Reference,
    at: Tensor,
) -> Tensor:
    """Estimates, [prompt layer head position]."""
    layers = {}
    for layer, (z, gradient) in z_gradients(model, tokens, readouts, metric).items():
        change = reference.z[layer].to(z).expand(z.shape) - z  # [prompt position head d_head]
        chosen = torch.zeros(z.shape[1], device=z.device, dtype=torch.bool).index_fill(0, at.to(z.device), True)
        estimate = (change.double() * gradient.double()).sum(-1)
        layers[layer] = estimate.where(chosen[:, None], 0.0).transpose(1, 2).to(tokens.device)
    return model.anatomy.stack(layers, 1)


def z_gradients(
    model: OpenModel, tokens: Tensor, readouts: tuple[Tensor, Tensor, Tensor, Tensor], metric: Metric
) -> dict[int, tuple[Tensor, Tensor]]:
    """z and the gradient of the behaviour with respect to z, per layer with attention [prompt position head d_head].

    Prompts do not interact, so the gradient of the sum over prompts gives each prompt's own.
    """
    zs: dict[int, Tensor] = {}
    probes: dict[int, Tensor] = {}

    def hook(layer: int) -> AttentionHook:
        def probe(call: AttentionCall, z: Tensor) -> Tensor:
            zs[layer] = z.detach()
            probes[layer] = torch.zeros_like(z).requires_grad_()
            return z + probes[layer]

        return probe

    hooks = {module: hook(layer) for layer, module in model.anatomy.attention.items()}
    positions, where, answers, rivals = (each.to(model.device) for each in readouts)
    with attention_hooks(hooks), torch.enable_grad():
        logits = logits_at(model, tokens, positions)
        rows = torch.arange(len(tokens), device=logits.device)[:, None]
        chosen = logits[rows, where.to(logits.device)]  # [prompt readout vocabulary]
        value = metric(chosen, answers.to(logits.device), rivals.to(logits.device)).sum()
        if not value.requires_grad:
            raise HeadatlasError(
                "this behaviour has no gradient (it counts, or compares); screen with logit_difference or "
                "log_probability, or use sweep, which does not need one"
            )
        layers = sorted(probes)
        gradients = torch.autograd.grad(value, [probes[layer] for layer in layers])
    if len(layers) != len(model.anatomy.attention) or not all(torch.isfinite(each).all() for each in gradients):
        raise HeadatlasError(f"{model.name} gave NaN or missing gradients; try float32, or use sweep")
    return {layer: (zs[layer], gradient) for layer, gradient in zip(layers, gradients, strict=True)}


def screen(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | Reference = "resample",
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
    order = [Head(int(layer), int(head)) for layer, head in np.argwhere(np.isfinite(estimate))]
    order.sort(key=lambda head: (-abs(estimate[head]), head))
    best, rest = order[:top], order[top:]
    drawn = np.random.default_rng(seed).choice(len(rest), min(sample, len(rest)), replace=False)
    others = [rest[number] for number in sorted(drawn)]
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
    effect = exact.effect.mean(-1)  # [layer head]
    least = min(abs(effect[head]) for head in best) if threshold is None else threshold
    missed = tuple(head for head in others if abs(effect[head]) >= least)
    return Screening(
        estimate,
        exact,
        tuple(best),
        tuple(others),
        _rank_correlation([estimate[head] for head in best + others], [effect[head] for head in best + others]),
        float(least),
        missed,
        len(missed) / len(others) if others else float("nan"),
        _share_interval(len(missed), len(others), len(rest)),
    )


def _rank_correlation(one: Iterable[float], other: Iterable[float]) -> float:
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
    possible = np.arange(hits, total - (drawn - hits) + 1)
    at_least, at_most = (stats.hypergeom(total, possible, drawn) for _ in range(2))
    kept = possible[(at_least.sf(hits - 1) > 0.025) & (at_most.cdf(hits) > 0.025)]
    return float(kept.min() / total), float(kept.max() / total)
