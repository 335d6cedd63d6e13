"""Trains all weights of a model on prompts, a few steps at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import log_probability
from headatlas.stimuli.prompts import Prompt

BETAS = (0.9, 0.95)  # of AdamW in the released code of he2024seekr


def train_on(model: OpenModel, prompts: Sequence[Prompt], steps: int, rate: float) -> None:
    """Lower the loss of the right answers, in place: AdamW without decay, each step on all prompts.

    Args:
        model: whose weights change; a copy, unless the model is not needed any more.
        prompts: with readouts.
        steps: number of steps.
        rate: learning rate, constant.

    Raises:
        HeadatlasError: if weights become NaN or infinite.
    """
    weights = [weight.requires_grad_(True) for weight in model.model.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=BETAS, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        for _, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
            torch.autograd.backward(loss_of(model, batch) / len(prompts))
        optimizer.step()
    if not all(torch.isfinite(weight).all() for weight in weights):
        raise HeadatlasError(f"{model.name} got NaN or infinite weights in training; open it in float32")


def loss_of(model: OpenModel, batch: Sequence[Prompt]) -> Tensor:
    """The summed negative log-probability of the answers of prompts of one length, with its gradient: a number."""
    positions, where, answers, rivals = (each.to(model.device) for each in readout_tensors(batch))
    with torch.enable_grad():
        logits = logits_at(model, stack_tokens([prompt.tokens for prompt in batch]), positions)
        chosen = logits[torch.arange(len(batch), device=logits.device)[:, None], where]  # [prompt readout vocabulary]
        return -log_probability(chosen, answers, rivals).sum()


def weights_of(model: OpenModel) -> list[Tensor]:
    """A copy of all weights, in their order."""
    return [weight.detach().clone() for weight in model.model.parameters()]


@contextmanager
@torch.no_grad()
def moved_at_random(model: OpenModel, start: Sequence[Tensor], seed: int) -> Iterator[None]:
    """While active, each weight matrix lies as far from `start` as it does now, in a random direction.

    Args:
        model: whose weights are moved, and put back.
        start: `weights_of` the model before it was trained.
        seed: of the directions.
    """
    drawn, now = torch.Generator().manual_seed(seed), weights_of(model)
    try:
        for weight, before, after in zip(model.model.parameters(), start, now, strict=True):
            noise = torch.randn(weight.shape, generator=drawn).to(weight)
            weight.copy_(before + noise * ((after - before).norm() / noise.norm().clamp_min(1e-12)))
        yield
    finally:
        for weight, after in zip(model.model.parameters(), now, strict=True):
            weight.copy_(after)
