"""Ranks one token's logit among those of the whole vocabulary, for many states, without holding the logits of any.

A sample of the vocabulary decides most states: more than k of its tokens lie above the token, and more than k below.
Only the others are compared with all tokens, block by block, until they are decided too.
"""

import torch
from torch import Tensor

_SAMPLE = 1024  # tokens that every state is compared with
HELD = 1 << 22  # logits held at once
_SLACK = 2.0**-20  # of the product of norms; rounding must not break a tie between tokens of equal weights


@torch.no_grad()
def among_extremes(states: Tensor, weight: Tensor, own: Tensor, k: int) -> Tensor:
    """Whether the logit of each state's own token is among its k largest, and whether it is among its k smallest.

    Args:
        states: [row d_model], float32, at most `HELD` / 1024 rows.
        weight: [vocabulary d_model]; a logit is the product of a state and a row of it.
        own: [row], token ids.
        k: number of ranks that count. Ties count against the token.

    Returns:
        [2 row], boolean.
    """
    chosen = weight[own].float()
    logit = (states * chosen).sum(-1)
    slack = _SLACK * states.norm(dim=-1) * chosen.norm(dim=-1)
    bounds = torch.stack([logit - slack, logit + slack], -1)  # [row 2]
    rows = torch.arange(len(states), device=states.device)
    if (stride := len(weight) // _SAMPLE) > 1:
        rows = rows[(_count(states, weight[::stride], bounds) <= k).any(0)]
    counts = torch.zeros(2, len(rows), dtype=torch.long, device=states.device)
    start = 0
    while len(rows) and start < len(weight):
        block = weight[start : start + max(1, HELD // len(rows))]
        counts += _count(states[rows], block, bounds[rows])
        start += len(block)
        left = (counts <= k).any(0)
        rows, counts = rows[left], counts[:, left]
    found = torch.zeros(2, len(states), dtype=torch.bool, device=states.device)
    found[:, rows] = counts <= k
    return found


def _count(states: Tensor, weight: Tensor, bounds: Tensor) -> Tensor:
    """How many tokens have a logit of at least the first bound, and of at most the second: [2 row]."""
    logits = states @ weight.T.to(states)
    return torch.stack([(logits >= bounds[:, :1]).sum(1), (logits <= bounds[:, 1:]).sum(1)])
