"""Falcon: attention inside the module's forward, with rotary positions or ALiBi, and shared keys and values."""

import math
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headatlas.lab.anatomy.families.routes import Joined, Route, per_head, score
from headatlas.lab.hooks.attention_interface import AttentionCall, attached, attend_with_hooks, mask_given

_TAKES = (
    "hidden_states", "alibi", "attention_mask", "position_ids", "layer_past", "use_cache", "output_attentions",
    "position_embeddings", "kwargs",
)  # fmt: skip


def _replace(module: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        hidden_states: Tensor,
        alibi: Tensor | None,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        position_embeddings: Any = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if not attached(module):
            found: tuple[Tensor, Tensor | None] = own(
                hidden_states, alibi, attention_mask, position_ids, layer_past, use_cache, output_attentions,
                position_embeddings, **others,
            )  # fmt: skip
            return found
        split = module._split_heads(module.query_key_value(hidden_states))  # [batch position head|kv_head d_head] each
        query, key, value = (each.transpose(1, 2) for each in split)
        if alibi is None:
            query, key = sys.modules[type(module).__module__].apply_rotary_pos_emb(query, key, *position_embeddings)
        if layer_past is not None:
            key, value = layer_past.update(key, value, module.layer_idx)
        if module.new_decoder_architecture:  # it repeats the shared keys and values for every query head
            key, value = (each[:, :: module.num_heads // module.num_kv_heads] for each in (key, value))
        fused = module.config._attn_implementation == "sdpa" and not output_attentions
        mask = mask_given(module)
        if mask is None:
            mask = attention_mask if alibi is None or fused else _twice(alibi, attention_mask, module.inv_norm_factor)
        call = AttentionCall(module, query, key, value, mask, 1 / math.sqrt(module.head_dim), None, None)
        z, weights = attend_with_hooks(call, _by_kernel if fused else _by_hand)
        return module.dense(z.flatten(2)), weights

    return forward


def _by_kernel(call: AttentionCall) -> tuple[Tensor, None]:
    key, value = per_head(call.key, call), per_head(call.value, call)
    z = scaled_dot_product_attention(call.query, key, value, attn_mask=call.mask, is_causal=call.mask is None)
    return z.transpose(1, 2), None


def _by_hand(call: AttentionCall) -> tuple[Tensor, Tensor]:
    weights = score(call).softmax(-1, dtype=call.query.dtype)  # [batch head query key]
    return (weights @ per_head(call.value, call)).transpose(1, 2), weights


def _join(alibi: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Add ALiBi [batch*head 1 key] again, as eager attention does; the mask [batch head query key] already has it."""
    return alibi.view(*mask.shape[:2], 1, -1) * scaling + mask


_twice = Joined(_join)


def _notes(config: Any) -> list[str]:
    if not (config.alibi and config._attn_implementation == "eager"):
        return []
    return ["transformers adds ALiBi twice in eager attention of this family, and once in sdpa: load it with sdpa"]


ROUTE = Route(
    "falcon",
    "FalconAttention",
    "forward",
    _TAKES,
    _replace,
    implementations=("sdpa", "eager"),
    notes=_notes,
    writes_in_place=True,
)
