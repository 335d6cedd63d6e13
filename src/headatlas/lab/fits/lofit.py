"""Vectors learned for the heads of a model that itself stands still: scaling factors and offsets of z.

After LoFiT (Yin et al. 2024): factors are learned for all heads, the heads that training changes most are kept, and
offsets are learned for those.
"""

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.screening import z_gradients
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import Array, batches, readout_tensors, stack_tokens
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
    """One vector per head that, together, raise a behaviour: z becomes (1 + vector) z, or z + vector, everywhere.

    They start from zero and are learned by Adam; the weights of the model stay as they are.

    Args:
        model: to run.
        prompts: with readouts.
        kind: what the vectors do to z.
        metric: what to raise; one with a gradient.
        l1: times the sum of the vectors' absolute values, taken from the mean behaviour.
        rate: of Adam.
        epochs: how often each prompt is seen.
        batch: the most prompts in a step, all of one length.
        seed: of their order.

    Returns:
        [layer head d_head], float32 on the CPU; zeros for heads that do not exist, and beside narrow ones.

    Raises:
        HeadatlasError: for a behaviour without a gradient, or where what was learned is not finite.
    """
    anatomy, rng = model.anatomy, random.Random(seed)
    vectors = torch.zeros(anatomy.layers, anatomy.heads, anatomy.d_head, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([vectors], rate)

    def tap(layer: int) -> AttentionHook:
        def change(call: AttentionCall, z: Tensor) -> Tensor:
            vector = vectors[layer, : z.shape[2], : z.shape[3]].to(z)
            return z * (1 + vector) if kind == "scaling" else z + vector

        return change

    taps = {module: tap(layer) for layer, module in anatomy.attention.items()}
    same = [
        part for index, _ in batches(model, prompts, lambda each: len(each.readouts)) for part in _cut(index, batch)
    ]
    for _ in range(epochs):
        for index in rng.sample(same, len(same)):
            chosen = [prompts[number] for number in index]
            positions, where, answers, rivals = (each.to(model.device) for each in readout_tensors(chosen))
            with attention_hooks(taps), torch.enable_grad():
                tokens = stack_tokens([prompt.tokens for prompt in chosen]).to(model.device)
                logits = logits_at(model, tokens, positions)
                read = logits[torch.arange(len(chosen), device=logits.device)[:, None], where.to(logits.device)]
                value = metric(read, answers.to(logits.device), rivals.to(logits.device)).mean()
                if not value.requires_grad:
                    raise HeadatlasError("this behaviour has no gradient; learn by log_probability or logit_difference")
                loss = l1 * vectors.abs().sum() - value.to(vectors.device)
                (vectors.grad,) = torch.autograd.grad(loss, [vectors])
            adam.step()
    if not torch.isfinite(vectors).all():
        raise HeadatlasError(f"{model.name} gave NaN or infinite gradients; try float32, or a smaller rate")
    return vectors.detach().float().cpu()


def scaling_slopes(model: OpenModel, prompts: Sequence[Prompt], metric: Metric = log_probability) -> Array:
    """How a behaviour begins to change as z is scaled: z * d behaviour / d z, summed over positions.

    Times a scaling vector and summed, this is what the vector of a head alone adds to the behaviour, to first order.

    Args:
        model: to run.
        prompts: with readouts.
        metric: one with a gradient.

    Returns:
        [prompt layer head d_head]; zeros for heads that do not exist, and beside narrow ones.
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
