"""Logistic regression with an L2 penalty, of many heads on many labellings of the same prompts, by Newton's method.

The heads differ in their features, and the tasks (labellings of the prompts) in nothing else. So the equations of a
Newton step are not solved task by task: they are solved for all tasks of a head together by conjugate gradients, with
the inverse for the tasks' mean curvature as preconditioner. Each head is factored once per step for all tasks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_STEPS = 50  # maximum number of Newton steps; a dozen suffice unless the penalty is tiny
_AT_ONCE = 1 << 16  # logits held at once: they are read many times, and should stay in a processor's cache
_ROUNDING = 1e-13  # of a loss, relative; near the optimum a step changes it by less
_RESIDUAL = 0.1  # to which a Newton step is solved, relative; more exact steps cost more than they save


def held_out_right(flat: Tensor, tasks: Tensor, fold: Tensor, l2: float) -> Tensor:
    """Whether the probe of the other fold classifies each prompt correctly.

    Args:
        flat: [head prompt d_head], float64.
        tasks: [task prompt], labels 0 or 1.
        fold: [prompt], 0 or 1.
        l2: as in `fit_logistic`.

    Returns:
        [task head prompt], boolean.
    """
    right = torch.empty(len(tasks), *flat.shape[:2], dtype=torch.bool)
    for side in (0, 1):
        train, test = flat[:, fold != side], flat[:, fold == side]
        mean, scale = standardisation(train)
        weights = fit_logistic((train - mean) / scale, tasks[:, fold != side], l2)
        for number, (states, each) in enumerate(zip((test - mean) / scale, weights, strict=True)):
            logits = states @ each[:-1] + each[-1]  # [prompt task]
            right[:, number, fold == side] = (logits.T > 0) == (tasks[:, fold == side] > 0)
    return right


def standardisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, [head 1 feature]; 1 for constant features."""
    scale = x.std(1, keepdim=True, correction=0)
    return x.mean(1, keepdim=True), torch.where(scale > 1e-12, scale, torch.ones_like(scale))


def fit_logistic(x: Tensor, tasks: Tensor, l2: float) -> Tensor:
    """Weights and (last) unpenalised intercept of each head for each task.

    Newton's method with step halving; the loss is convex, so a vanishing gradient means the optimum.

    Args:
        x: [head prompt d], float64.
        tasks: [task prompt], labels 0 or 1.
        l2: half of it times the squared weights is added to the summed loss.

    Returns:
        [head d+1 task]
    """
    heads = max(1, _AT_ONCE // tasks.numel())
    return torch.cat([_fit(part, tasks, l2) for part in torch.split(x, heads)])


def _fit(x: Tensor, tasks: Tensor, l2: float) -> Tensor:
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)  # [head prompt d+1]
    penalty = torch.full((x.shape[-1], 1), l2, dtype=x.dtype)
    penalty[-1] = 0.0
    signs = 2 * tasks.T.to(x) - 1  # [prompt task]
    weights = torch.zeros(len(x), x.shape[-1], len(tasks), dtype=x.dtype)
    logits = torch.zeros(*x.shape[:2], len(tasks), dtype=x.dtype)
    chance = (signs * logits).sigmoid()  # of the right label, [head prompt task]
    before = _loss(chance, weights, penalty)
    for _ in range(_STEPS):
        gradient = penalty * weights - x.mT @ (signs * (1 - chance))  # [head d+1 task]
        if gradient.abs().max() < 1e-8 * tasks.shape[1]:
            break
        step = _Curvature(x, (chance * (1 - chance)).clamp_min(1e-12), penalty).solve(gradient)
        change = x @ step
        size = torch.ones(len(x), 1, len(tasks), dtype=x.dtype)
        for _ in range(20):
            chance = (signs * (logits - size * change)).sigmoid()
            loss = _loss(chance, weights - size * step, penalty)
            if not (worse := loss > before * (1 + _ROUNDING)).any():
                break
            size = torch.where(worse, size / 2, size)
        weights, logits, before = weights - size * step, logits - size * change, loss
    return weights


def _loss(chance: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
    """[head 1 task]"""
    return 0.5 * (penalty * weights.square()).sum(1, keepdim=True) - chance.log().sum(1, keepdim=True)


@dataclass(frozen=True)
class _Curvature:
    """The second derivative of the loss: x [head prompt d], curved [head prompt task], penalty [d 1]."""

    x: Tensor
    curved: Tensor
    penalty: Tensor

    def times(self, steps: Tensor) -> Tensor:
        """[head d task] -> the same."""
        return self.x.mT @ (self.curved * (self.x @ steps)) + self.penalty * steps

    def solve(self, gradient: Tensor) -> Tensor:
        """The steps [head d task] whose product is the gradient, up to a residual."""
        mean = self.x.mT @ (self.x * self.curved.mean(-1, keepdim=True)) + torch.diag(self.penalty[:, 0])
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(mean))
        steps, rest = torch.zeros_like(gradient), gradient
        way = towards = inverse @ rest
        size = first = (rest * towards).sum(1, keepdim=True)  # [head 1 task]
        for _ in range(2 * gradient.shape[1]):
            product = self.times(way)
            length = size / (way * product).sum(1, keepdim=True).clamp_min(1e-300)
            steps, rest = steps + length * way, rest - length * product
            towards = inverse @ rest
            before, size = size, (rest * towards).sum(1, keepdim=True)
            if (size <= _RESIDUAL**2 * first).all():
                break
            way = towards + (size / before.clamp_min(1e-300)) * way
        return steps
