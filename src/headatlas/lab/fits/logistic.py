"""Logistic regression with an L2 penalty on many heads at once, by Newton's method."""

import torch
from torch import Tensor

_STEPS = 50  # maximum number of Newton steps; a dozen suffice unless the penalty is tiny


def held_out_right(flat: Tensor, y: Tensor, fold: Tensor, l2: float) -> Tensor:
    """Whether the probe of the other fold classifies each prompt correctly: [head prompt], float64."""
    right = torch.empty(flat.shape[:2], dtype=torch.float64)
    for side in (0, 1):
        train, test = flat[:, fold != side], flat[:, fold == side]
        mean, scale = standardisation(train)
        weights = fit_logistic((train - mean) / scale, y[fold != side], l2)
        logits = torch.einsum("hnd,hd->hn", (test - mean) / scale, weights[:, :-1]) + weights[:, -1:]
        right[:, fold == side] = ((logits > 0) == (y[fold == side] > 0)).double()
    return right


def standardisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, [head 1 feature]; 1 for constant features."""
    scale = x.std(1, keepdim=True, correction=0)
    return x.mean(1, keepdim=True), torch.where(scale > 1e-12, scale, torch.ones_like(scale))


def fit_logistic(x: Tensor, y: Tensor, l2: float) -> Tensor:
    """Weights and (last) unpenalised intercept of each head, for x [head prompt d] and y [prompt].

    Newton's method with step halving; the loss is convex, so a vanishing gradient means the optimum.
    """
    x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    penalty = torch.full((x.shape[-1],), l2, dtype=x.dtype)
    penalty[-1] = 0.0
    weights = torch.zeros(len(x), x.shape[-1], dtype=x.dtype)
    for _ in range(_STEPS):
        chance = torch.einsum("hnd,hd->hn", x, weights).sigmoid()
        gradient = torch.einsum("hnd,hn->hd", x, chance - y) + penalty * weights
        if gradient.abs().max() < 1e-8 * len(y):
            break
        curved = x * (chance * (1 - chance)).clamp_min(1e-12)[..., None]
        step = torch.linalg.solve(x.mT @ curved + torch.diag(penalty), gradient)
        before = _loss(x, y, weights, penalty)
        size = torch.ones(len(x), 1, dtype=x.dtype)
        for _ in range(20):
            worse = _loss(x, y, weights - size * step, penalty) > before
            if not worse.any():
                break
            size = torch.where(worse[:, None], size / 2, size)
        weights = weights - size * step
    return weights


def _loss(x: Tensor, y: Tensor, weights: Tensor, penalty: Tensor) -> Tensor:
    logits = torch.einsum("hnd,hd->hn", x, weights)
    each = torch.nn.functional.softplus(logits) - y * logits
    return each.sum(-1) + 0.5 * (penalty * weights.square()).sum(-1)
