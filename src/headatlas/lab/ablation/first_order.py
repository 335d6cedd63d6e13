"""Attribution patching: first-order estimates of the effect of every head, from two passes and one gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.replacement import AblationKind, EditPositions, Patch, Replacement, edited_positions
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone, batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import Metric
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


def attribution_patching(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    ablation: AblationKind | ZValues | Patch = "resample",
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
    reference: ZValues,
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
