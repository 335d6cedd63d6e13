"""Attention weights recomputed from one layer's query, key and mask.

Only the requested rows are computed, so the full [query key] pattern of a prompt is never stored.
"""

import torch
from torch import Tensor

from headatlas.lab.hooks.attention_interface import AttentionCall


def attention_rows(call: AttentionCall, positions: Tensor, keys: int | None = None) -> Tensor:
    """Recompute the attention rows of the given query positions, as the model uses them.

    Args:
        call: one layer's attention call.
        positions: query positions, [batch row].
        keys: return only the first `keys` keys; no query may attend beyond them. Default: all.

    Returns:
        [batch head row key] in float32. Rows sum to 1, or to less in models with attention sinks: the weight on the
        sink is not redistributed.
    """
    keys = call.key.shape[2] if keys is None else keys
    if call.pattern is not None:
        return _edited(call, positions)[..., :keys]
    batch, heads, _, d_head = call.query.shape
    kv_heads = call.key.shape[1]
    query = call.query.gather(2, positions[:, None, :, None].expand(batch, heads, -1, d_head)).float()
    grouped = query.reshape(batch, kv_heads, -1, d_head)  # [batch kv_head head*row d_head]: heads of a group share keys
    scores = grouped @ call.key[:, :, :keys].float().transpose(-1, -2) * call.scaling
    scores = scores.view(batch, heads, -1, keys)  # [batch head row key]
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap  # before the mask
    scores = _masked(scores, call.mask, positions)
    if call.sinks is None:
        return scores.softmax(-1)
    sinks = call.sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]


def _edited(call: AttentionCall, positions: Tensor) -> Tensor:
    """[batch head row key] of a pattern edited by an intervention."""
    assert call.pattern is not None
    chosen, place = torch.unique(positions, return_inverse=True)
    heads = torch.arange(call.query.shape[1], device=chosen.device)
    edited = call.pattern.rows(call, heads, chosen).transpose(1, 2)  # [batch head chosen key]
    index = place[:, None, :, None].expand(len(edited), edited.shape[1], -1, edited.shape[-1])
    return edited.gather(2, index)


def _masked(scores: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
    if mask is None:  # plain causal: key <= query
        keys = torch.arange(scores.shape[-1], device=scores.device)
        allowed = keys[None, None, None, :] <= positions[:, None, :, None]
        return scores.masked_fill(~allowed, float("-inf"))
    mask = mask[..., : scores.shape[-1]].expand(scores.shape[0], -1, -1, -1)
    index = positions[:, None, :, None].expand(scores.shape[0], mask.shape[1], -1, mask.shape[-1])
    chosen = mask.gather(2, index)  # [batch 1|head row key]
    return scores.masked_fill(~chosen, float("-inf")) if chosen.dtype == torch.bool else scores + chosen.float()


def value_norms(call: AttentionCall, w_o: Tensor | None = None) -> Tensor:
    """Norms of each head's value vectors, or of their products with W_O [head d_head d_model]: [batch head key]."""
    groups = call.query.shape[1] // call.value.shape[1]
    if w_o is None:
        norms: Tensor = torch.linalg.vector_norm(call.value.float(), dim=-1)
        return norms.repeat_interleave(groups, dim=1)
    outputs = (call.value[:, head // groups].float() @ each.float() for head, each in enumerate(w_o))
    return torch.stack([torch.linalg.vector_norm(each, dim=-1) for each in outputs], 1)  # one head at a time
