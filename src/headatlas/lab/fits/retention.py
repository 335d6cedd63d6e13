"""Which heads change their attention while a model learns, and matter for what it learns (he2024seekr)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.recording import record
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.fits.continued_training import loss_of, moved_at_random, train_on, weights_of
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.copying import copied
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Retention:
    """What was measured while a copy of a model learned one task after another.

    Attributes:
        importance: per task [prompt layer head]: forgettability times task sensitivity. NaN for heads that do not
            exist.
        chance: the same where each weight matrix moved as far in a random direction instead of the learned one.
        model: the copy, after the last task.
    """

    importance: tuple[Array, ...]
    chance: tuple[Array, ...]
    model: OpenModel


def learn_in_turn(
    model: OpenModel, tasks: Sequence[Sequence[Prompt]], *, steps: int, rate: float, seed: int = 0
) -> Retention:
    """Train a copy of a model on one task after another, and measure the importance of its heads after each.

    Source: he2024seekr, the released code. Forgettability is the mean squared change of a head's attention weights on
    the task's prompts over the training on that task. Task sensitivity is the mean squared gradient of the loss with
    respect to these weights after it, divided by the sum over the layer. Means are over queries and the keys that are
    not after them; in the code also over later keys, whose weight is always 0.

    Args:
        model: which stays as it is.
        tasks: the prompts of each, with readouts; the model learns their answers.
        steps, rate: as in `train_on`, for each task.
        seed: of the random directions.

    Raises:
        HeadatlasError: for NaN in training, or if a norm stands between attention and the output projection.
    """
    learner, importance, chance = copied(model), list[Array](), list[Array]()
    for number, prompts in enumerate(tasks):
        start, before = weights_of(learner), attention_patterns(learner, prompts)
        train_on(learner, prompts, steps, rate)
        sensitivity = task_sensitivity(learner, prompts)
        importance.append(mean_squared_change(before, attention_patterns(learner, prompts)) * sensitivity)
        with moved_at_random(learner, start, seed + number):
            chance.append(mean_squared_change(before, attention_patterns(learner, prompts)) * sensitivity)
    return Retention(tuple(importance), tuple(chance), learner)


def attention_patterns(model: OpenModel, prompts: Sequence[Prompt]) -> list[Array]:
    """The attention weights of every prompt: each [layer head query key], NaN for heads that do not exist."""
    found: dict[int, Array] = {}
    for index, batch in batches(model, prompts, lambda prompt: 1):
        seen = record(model, [prompt.tokens for prompt in batch], ["pattern"])
        every = model.anatomy.stack({layer: seen["pattern", layer].cpu() for layer in model.anatomy.attention}, 1)
        found |= dict(zip(index, every.double().numpy(), strict=True))
    return [found[number] for number in range(len(prompts))]


def mean_squared_change(before: Sequence[Array], after: Sequence[Array]) -> Array:
    """Mean squared change of each head's weights over queries and keys that are not after them: [prompt layer head].

    `before` and `after` are `attention_patterns` of the same prompts.
    """
    means = []
    for one, other in zip(before, after, strict=True):
        length = one.shape[-1]
        means.append(np.square(other - one).sum((-1, -2)) / (length * (length + 1) / 2))
    return np.stack(means)


def task_sensitivity(model: OpenModel, prompts: Sequence[Prompt]) -> Array:
    """Share of its layer's mean squared gradient of the loss with respect to attention weights: [layer head].

    The gradient at a weight is the dot product of the value of its key with the gradient at z of its query.

    Args:
        model: to run.
        prompts: with readouts; the loss is the negative log-probability of their answers.

    Raises:
        HeadatlasError: if a norm stands between attention and the output projection.
    """
    total = dict[int, Tensor]()
    for _, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        for layer, squares in _squared_gradients(model, batch).items():
            total[layer] = total.get(layer, 0) + squares.double().sum(0).cpu()
    shares = {layer: each / each.sum().clamp_min(torch.finfo(torch.float64).tiny) for layer, each in total.items()}
    found: Array = model.anatomy.stack(shares, 0).numpy()
    return found


def _squared_gradients(model: OpenModel, batch: Sequence[Prompt]) -> dict[int, Tensor]:
    """Mean squared gradient at the weights of each head, per layer [prompt head]; prompts do not interact."""
    probes, calls = dict[int, Tensor](), dict[int, tuple[Tensor, Tensor | None]]()

    def hook(layer: int) -> AttentionHook:
        def probe(call: AttentionCall, z: Tensor) -> Tensor:
            probes[layer] = torch.zeros_like(z).requires_grad_()
            scale = gate(call, z.detach())
            calls[layer] = call.value.detach(), None if scale is None else scale.detach()
            return z + probes[layer]

        return probe

    with attention_hooks({module: hook(layer) for layer, module in model.anatomy.attention.items()}):
        loss, layers = loss_of(model, batch), sorted(probes)
        gradients = torch.autograd.grad(loss, [probes[layer] for layer in layers])
    if not all(torch.isfinite(each).all() for each in gradients):
        raise HeadatlasError(f"{model.name} gave NaN gradients; try float32")
    found = {}
    for layer, gradient in zip(layers, gradients, strict=True):  # [prompt query head d_head]
        value, scale = calls[layer]
        at = gradient.float() if scale is None else gradient.float() * scale
        values = value.float().repeat_interleave(at.shape[2] // value.shape[1], 1)  # [prompt head key d_head]
        each = torch.einsum("bqhd,bhkd->bhqk", at, values).tril()
        length = each.shape[-1]
        found[layer] = each.square().sum((-1, -2)) / (length * (length + 1) / 2)
    return found
