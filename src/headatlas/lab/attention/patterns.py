"""Scores of attention patterns one can hold: pure functions of [batch head query key] weights.

For small prompts, drawn patterns and tests; `headatlas.lab.attention.streaming` gives the same numbers without the
pattern. All but `pair_weight` and `distance` also take some rows of a pattern in place of all its queries. Sets of
keys are positions, not masks: [batch key], one set per prompt, or [batch query key], one per query; -1 stands for no
key, and a leading 1 for the same in every prompt. Rows are taken as they are: where a model's sinks make them sum to
less than 1, nothing is given back.
"""

import torch
from torch import Tensor


def indicator(keys: Tensor, length: int) -> Tensor:
    """Sets of keys [batch key] as rows of ones and zeros, float32: [batch length]."""
    columns = torch.zeros(len(keys), length + 1, device=keys.device)
    outside = (keys < 0) | (keys >= length)  # -1, and keys that none of these queries has reached
    columns.scatter_(1, torch.where(outside, length, keys), 1.0)
    return columns[:, :length]


def each_weight(pattern: Tensor, keys: Tensor) -> Tensor:
    """The weight of each query on each of its keys [batch query key]: [batch head query key]; 0 where it is -1."""
    index = keys.clamp_min(0)[:, None].expand(pattern.shape[0], pattern.shape[1], -1, -1)
    return pattern.gather(-1, index) * (keys >= 0)[:, None]


def pair_weight(pattern: Tensor, pairs: Tensor) -> Tensor:
    """The weight at (query, key) positions.

    Args:
        pattern: [batch head query key], with all its queries.
        pairs: [batch pair 2], or [1 pair 2] for the same in every prompt.

    Returns:
        [batch head pair]
    """
    batch = torch.arange(len(pattern), device=pattern.device)[:, None]
    return pattern[batch, :, pairs[..., 0], pairs[..., 1]].transpose(1, 2)


def key_mass(pattern: Tensor, keys: Tensor | None) -> Tensor:
    """The weight of each query on a set of keys, or on all where it is None: [batch head query]."""
    if keys is None:
        return pattern.sum(-1)
    if keys.ndim == 3:
        return each_weight(pattern, keys).sum(-1)
    return (pattern @ indicator(keys, pattern.shape[-1])[:, None, :, None]).squeeze(-1)


def argmax_key(pattern: Tensor) -> Tensor:
    """The key each query looks at most, the first of several equals: [batch head query], int64."""
    return pattern.argmax(-1)


def entropy(pattern: Tensor) -> Tensor:
    """- sum_j p_ij ln p_ij of each row, in nats: [batch head query]."""
    each: Tensor = torch.special.entr(pattern)  # 0 where the weight is 0
    return each.sum(-1)


def distance(pattern: Tensor, queries: Tensor | None = None) -> Tensor:
    """First and second moment of how far back each query looks, sum_j p_ij (i - j) and sum_j p_ij (i - j)^2.

    Args:
        pattern: [batch head row key].
        queries: [batch row], the query position of each row; None for a pattern with all its queries.

    Returns:
        [batch head row 2], in tokens and tokens squared.
    """
    keys = torch.arange(pattern.shape[-1], device=pattern.device)
    back = (keys[None, :, None] if queries is None else queries[..., None]) - keys  # [batch row key]
    far = back.clamp_min(0).to(pattern.dtype)[:, None]  # no weight lies ahead of a query
    return torch.stack([(pattern * far).sum(-1), (pattern * far.square()).sum(-1)], -1)


def without_sinks(pattern: Tensor, sinks: Tensor) -> Tensor:
    """The pattern with no weight on the sinks [batch key], divided by the weight that lies elsewhere.

    A row whose whole weight lies on the sinks becomes 0.
    """
    kept = pattern * (1.0 - indicator(sinks, pattern.shape[-1]))[:, None, None]
    return divided(kept, kept.sum(-1, keepdim=True))


def divided(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where the whole is 0."""
    return part / torch.where(whole > 0, whole, torch.ones_like(whole))


def value_weighted(pattern: Tensor, norms: Tensor) -> Tensor:
    """Each weight times the norm [batch head key] of what it brings (the value, or the value through W_O)."""
    return pattern * norms[:, :, None]
