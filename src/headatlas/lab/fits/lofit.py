"""Learns vectors that scale or shift z of each head while the model's weights stay frozen.

After LoFiT (yin2024lofit), which learns scaling factors for all heads, selects the heads with the largest ones, and
learns offsets for those.
"""

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.first_order import z_gradients
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import Metric, log_probability
from headatlas.stimuli.prompts import Prompt


def learn_vectors(
    model: OpenModel,
    prompts: Sequence[Prompt],
    kind: Literal["scaling", "offset"],
    *,
    metric: Metric = log_probability,
    l1: float = 0.0,
    rate: float = 5e-3,
    epochs: int = 5,
    batch: int = 8,
    seed: int = 0,
) -> Tensor:
    """Learn one vector per head that together raise a behaviour: z becomes (1 + vector) z, or z + vector, everywhere.

    Source: yin2024lofit. The vectors start at zero and are trained with Adam; the model's weights are frozen.

    Args:
        model: to run.
        prompts: with readouts.
        kind: what the vectors do to z.
        metric: to raise; must have a gradient.
        l1: weight of the L1 penalty on the vectors, relative to the mean behaviour.
        rate: learning rate.
        epochs: number of passes over the prompts.
        batch: maximum number of prompts per step, all of equal length.
        seed: of the order of prompts.

    Returns:
        [layer head d_head], float32 on the CPU; zero for heads that do not exist and in the padding of narrow heads.

    Raises:
        HeadatlasError: for a behaviour without a gradient, or if the learned vectors are not finite.
    """
    anatomy, rng = model.anatomy, random.Random(seed)
    vectors = torch.zeros(anatomy.layers, anatomy.heads, anatomy.d_head, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([vectors], rate)
    hooks = {module: _changing(vectors[layer], kind) for layer, module in anatomy.attention.items()}
    same = [
        part for index, _ in batches(model, prompts, lambda each: len(each.readouts)) for part in _cut(index, batch)
    ]
    for _ in range(epochs):
        for index in rng.sample(same, len(same)):
            chosen = [prompts[number] for number in index]
            with attention_hooks(hooks), torch.enable_grad():
                value = _mean_metric(model, chosen, metric)
                loss = l1 * vectors.abs().sum() - value.to(vectors.device)
                (vectors.grad,) = torch.autograd.grad(loss, [vectors])
            adam.step()
    if not torch.isfinite(vectors).all():
        raise HeadatlasError(f"{model.name} gave NaN or infinite gradients; try float32, or a smaller rate")
    return vectors.detach().float().cpu()


def _changing(vectors: Tensor, kind: Literal["scaling", "offset"]) -> AttentionHook:
    """A hook that scales z by 1 + vectors, or adds them: vectors [head d_head]."""

    def change(call: AttentionCall, z: Tensor) -> Tensor:
        vector = vectors[: z.shape[2], : z.shape[3]].to(z)
        return z * (1 + vector) if kind == "scaling" else z + vector

    return change


def _mean_metric(model: OpenModel, prompts: Sequence[Prompt], metric: Metric) -> Tensor:
    """The mean metric of prompts of one length, with its gradient."""
    positions, where, answers, rivals = (each.to(model.device) for each in readout_tensors(prompts))
    tokens = stack_tokens([prompt.tokens for prompt in prompts]).to(model.device)
    logits = logits_at(model, tokens, positions)
    read = logits[torch.arange(len(prompts), device=logits.device)[:, None], where.to(logits.device)]
    value = metric(read, answers.to(logits.device), rivals.to(logits.device)).mean()
    if not value.requires_grad:
        raise HeadatlasError("this behaviour has no gradient; learn by log_probability or logit_difference")
    return value


def scaling_slopes(model: OpenModel, prompts: Sequence[Prompt], metric: Metric = log_probability) -> Array:
    """Sensitivity of a behaviour to scaling z: z * d behaviour / d z, summed over positions.

    Its dot product with a head's scaling vector is the vector's first-order effect on the behaviour.

    Args:
        model: to run.
        prompts: with readouts.
        metric: a metric with a gradient.

    Returns:
        [prompt layer head d_head]; zero for heads that do not exist and in the padding of narrow heads.
    """
    anatomy = model.anatomy
    found = np.zeros((len(prompts), anatomy.layers, anatomy.heads, anatomy.d_head))
    for index, chosen in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        tokens = stack_tokens([prompt.tokens for prompt in chosen])
        for layer, (z, gradient) in z_gradients(model, tokens, readout_tensors(chosen), metric).items():
            part = (z.double() * gradient.double()).sum(1).cpu().numpy()  # [prompt head d_head]
            found[index, layer, : part.shape[1], : part.shape[2]] = part
    return found


def _cut(index: Sequence[int], size: int) -> list[Sequence[int]]:
    return [index[start : start + size] for start in range(0, len(index), size)]
