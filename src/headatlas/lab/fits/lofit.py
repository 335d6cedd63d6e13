"""Learns vectors that scale or shift z of each head while the model's weights stay frozen.

After LoFiT (yin2024lofit), which learns scaling factors for all heads, selects the heads with the largest ones, and
learns offsets for those.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.first_order import z_gradients
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import Metric, log_probability
from headatlas.lab.running.prefix_trees import laid_out, own_masks, prefix_tree
from headatlas.stimuli.prompts import Prompt

Kind = Literal["scaling", "offset"]
_NODES = 128  # tokens in one pass, which keeps what their gradients need: about a megabyte each in a small model


def learn_vectors(
    model: OpenModel,
    prompts: Sequence[Prompt],
    kind: Kind,
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
    return learn_each(model, [prompts], kind, metric=metric, l1=l1, rate=rate, epochs=epochs, batch=batch, seed=seed)[0]


def learn_each(
    model: OpenModel,
    sets: Sequence[Sequence[Prompt]],
    kind: Kind,
    *,
    metric: Metric = log_probability,
    l1: float = 0.0,
    rate: float = 5e-3,
    epochs: int = 5,
    batch: int = 8,
    seed: int = 0,
) -> Tensor:
    """Learn vectors from each set of prompts by itself, as `learn_vectors` does; steps of several sets share passes.

    Args:
        model: to run.
        sets: of prompts, at least one.
        kind, metric, l1, rate, epochs, batch, seed: as in `learn_vectors`.

    Returns:
        [set layer head d_head]

    Raises:
        HeadatlasError: as in `learn_vectors`.
    """
    anatomy = model.anatomy
    size = (anatomy.layers, anatomy.heads, anatomy.d_head)
    vectors = [torch.zeros(size, device=model.device, requires_grad=True) for _ in sets]
    adams = [torch.optim.Adam([each], rate) for each in vectors]
    orders = [_order(model, prompts, epochs, batch, seed) for prompts in sets]
    runner = _Runner(model, kind, metric, max((prompt.tokens for prompts in sets for prompt in prompts), key=len))
    for step in range(max(map(len, orders))):
        waiting = [(number, order[step]) for number, order in enumerate(orders) if step < len(order)]
        for chosen in runner.fitting(waiting):
            numbers = [number for number, _ in chosen]
            values = runner.values([vectors[number] for number in numbers], [prompts for _, prompts in chosen])
            losses = [l1 * vectors[number].abs().sum() - value for number, value in zip(numbers, values, strict=True)]
            gradients = torch.autograd.grad(losses, [vectors[number] for number in numbers])
            for number, gradient in zip(numbers, gradients, strict=True):
                vectors[number].grad = gradient
                adams[number].step()
    learned = torch.stack(vectors).detach()
    if not torch.isfinite(learned).all():
        raise HeadatlasError(f"{model.name} gave NaN or infinite gradients; try float32, or a smaller rate")
    return learned.float().cpu()


def _order(model: OpenModel, prompts: Sequence[Prompt], epochs: int, size: int, seed: int) -> list[list[Prompt]]:
    """The prompts of each step."""
    rng = random.Random(seed)
    same = [
        [prompts[number] for number in index[start : start + size]]
        for index, _ in batches(model, prompts, lambda each: len(each.readouts))
        for start in range(0, len(index), size)
    ]
    return [part for _ in range(epochs) for part in rng.sample(same, len(same))]


class _Runner:
    """Runs prompts with vectors; those of several sets in one pass, and common beginnings once, if the model allows."""

    def __init__(self, model: OpenModel, kind: Kind, metric: Metric, longest: tuple[int, ...]) -> None:
        self._model, self._kind, self._metric = model, kind, metric
        self._masks = own_masks(model, longest)

    def fitting(self, waiting: Sequence[tuple[int, list[Prompt]]]) -> Iterator[list[tuple[int, list[Prompt]]]]:
        """Parts that fit into one pass, each of at least one set."""
        part: list[tuple[int, list[Prompt]]] = []
        nodes = 0
        for number, prompts in waiting:
            more = len(prefix_tree([prompt.tokens for prompt in prompts]).tokens)
            if part and (self._masks is None or nodes + more > _NODES):
                yield part
                part, nodes = [], 0
            part.append((number, prompts))
            nodes += more
        yield part

    def values(self, vectors: Sequence[Tensor], sets: Sequence[Sequence[Prompt]]) -> list[Tensor]:
        """The mean metric of each set of prompts of one length, with the gradient in its own vectors."""
        if self._masks is None:
            return [self._plain(*each) for each in zip(vectors, sets, strict=True)]
        prompts = [(prompt, number) for number, each in enumerate(sets) for prompt in each]
        tree = prefix_tree([prompt.tokens for prompt, _ in prompts], [number for _, number in prompts])
        nodes = [
            [way[r.position] for r in prompt.readouts] for (prompt, _), way in zip(prompts, tree.ways, strict=True)
        ]
        kept = sorted({node for each in nodes for node in each})
        with torch.enable_grad(), laid_out(self._model, tree, self._masks):
            of_node = torch.stack(list(vectors), 1)[:, tree.group.to(self._model.device)]  # [layer node head d_head]
            with attention_hooks(self._hooks(of_node)):
                logits = logits_at(self._model, tree.tokens[None], torch.tensor(kept))[0]
        place = {node: number for number, node in enumerate(kept)}
        rows = iter(nodes)
        found = []
        for each in sets:
            index = torch.tensor([[place[node] for node in next(rows)] for _ in each], device=logits.device)
            found.append(self._mean(logits[index], each))
        return found

    def _plain(self, vectors: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        positions, where, _, _ = readout_tensors(prompts)
        tokens = stack_tokens([prompt.tokens for prompt in prompts])
        with torch.enable_grad(), attention_hooks(self._hooks(vectors)):
            logits = logits_at(self._model, tokens, positions)
        rows = torch.arange(len(prompts), device=logits.device)[:, None]
        return self._mean(logits[rows, where.to(logits.device)], prompts)

    def _hooks(self, vectors: Tensor) -> dict[nn.Module, AttentionHook]:
        """Hooks that scale z by 1 + vectors, or add them: vectors [layer head d_head] or [layer node head d_head]."""

        def changing(vector: Tensor) -> AttentionHook:
            def change(call: AttentionCall, z: Tensor) -> Tensor:
                fitting = vector[..., : z.shape[2], : z.shape[3]].to(z)
                return z * (1 + fitting) if self._kind == "scaling" else z + fitting

            return change

        each = vectors.unbind()  # whose gradient is put together once, and not layer by layer
        return {module: changing(each[layer]) for layer, module in self._model.anatomy.attention.items()}

    def _mean(self, read: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """The mean metric, of logits [prompt readout vocabulary]."""
        _, _, answers, rivals = (each.to(read.device) for each in readout_tensors(prompts))
        value = self._metric(read, answers, rivals).mean()
        if not value.requires_grad:
            raise HeadatlasError("this behaviour has no gradient; learn by log_probability or logit_difference")
        return value.to(self._model.device)


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
