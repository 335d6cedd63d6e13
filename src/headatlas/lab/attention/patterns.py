"""Scores of attention patterns held in memory: pure functions of weights [batch head query key].

For small prompts and tests; `headatlas.lab.attention.streaming` computes the same numbers without the pattern. All but
`pair_weight` and `distance` also accept a subset of the pattern's rows. Sets of keys are positions, not masks:
[batch key], one set per prompt, or [batch query key], one per query, padded with -1; a leading 1 means the same set for
every prompt. Rows are used as given: if sinks make them sum to less than 1, they are not renormalised.
"""

import torch
from torch import Tensor


def indicator(keys: Tensor, length: int) -> Tensor:
    """Turn sets of keys [batch key] into 0/1 rows, float32: [batch length]."""
    columns = torch.zeros(len(keys), length + 1, device=keys.device)
    outside = (keys < 0) | (keys >= length)  # padding, and keys beyond all of these queries
    columns.scatter_(1, torch.where(outside, length, keys), 1.0)
    return columns[:, :length]


def each_weight(pattern: Tensor, keys: Tensor) -> Tensor:
    """Weight of each query on each of its keys [batch query key]: [batch head query key]; 0 where the key is -1."""
    index = keys.clamp_min(0)[:, None].expand(pattern.shape[0], pattern.shape[1], -1, -1)
    return pattern.gather(-1, index) * (keys >= 0)[:, None]


def pair_weight(pattern: Tensor, pairs: Tensor) -> Tensor:
    """Attention weight at (query, key) positions.

    Args:
        pattern: [batch head query key], with all queries.
        pairs: [batch pair 2], or [1 pair 2] for the same pairs in every prompt.

    Returns:
        [batch head pair]
    """
    batch = torch.arange(len(pattern), device=pattern.device)[:, None]
    return pattern[batch, :, pairs[..., 0], pairs[..., 1]].transpose(1, 2)


def key_mass(pattern: Tensor, keys: Tensor | None) -> Tensor:
    """Total weight of each query on a set of keys, or on all keys if None: [batch head query]."""
    if keys is None:
        return pattern.sum(-1)
    if keys.ndim == 3:
        return each_weight(pattern, keys).sum(-1)
    return (pattern @ indicator(keys, pattern.shape[-1])[:, None, :, None]).squeeze(-1)


def argmax_key(pattern: Tensor) -> Tensor:
    """The key with the largest weight, the first one on ties: [batch head query], int64."""
    return pattern.argmax(-1)


def entropy(pattern: Tensor) -> Tensor:
    """Entropy - sum_j p_ij ln p_ij of each row, in nats: [batch head query]."""
    each: Tensor = torch.special.entr(pattern)  # 0 where the weight is 0
    return each.sum(-1)


def distance(pattern: Tensor, queries: Tensor | None = None) -> Tensor:
    """First and second moment of the attention distance, sum_j p_ij (i - j) and sum_j p_ij (i - j)^2.

    Args:
        pattern: [batch head row key].
        queries: [batch row], the query position of each row; None for a pattern with all queries.

    Returns:
        [batch head row 2], in tokens and tokens squared.
    """
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    back = (keys[None, :, None] if queries is None else queries[..., None]) - keys  # [batch row key]
    far = back.clamp_min(0).to(pattern.dtype)[:, None]  # no weight lies ahead of a query
    return torch.stack([(pattern * far).sum(-1), (pattern * far.square()).sum(-1)], -1)


def without_sinks(pattern: Tensor, sinks: Tensor) -> Tensor:
    """Set the weight on sinks [batch key] to 0 and renormalise each row.

    A row with all its weight on sinks becomes 0.
    """
    kept = pattern * (1.0 - indicator(sinks, pattern.shape[-1]))[:, None, None]
    return divided(kept, kept.sum(-1, keepdim=True))


def divided(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, or 0 where whole is 0."""
    return part / torch.where(whole > 0, whole, torch.ones_like(whole))


def value_weighted(pattern: Tensor, norms: Tensor) -> Tensor:
    """Multiply each weight by the norm [batch head key] of its value, or of its value times W_O."""
    return pattern * norms[:, :, None]
