"""MPT: attention inside the module's forward, with ALiBi added to the scores and a mask of hidden keys."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from headatlas.lab.anatomy.families.routes import Joined, Route, score
from headatlas.lab.hooks.attention_interface import AttentionCall, attached, attend_with_hooks, mask_given

_TAKES = ("hidden_states", "position_bias", "past_key_values", "attention_mask", "kwargs")


def _replace(module: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        hidden_states: Tensor,
        position_bias: Tensor,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if not attached(module):
            found: tuple[Tensor, Tensor | None] = own(
                hidden_states, position_bias, past_key_values, attention_mask, **others
            )
            return found
        fused = module.Wqkv(hidden_states)
        if module.clip_qkv:
            fused = fused.clamp(-module.clip_qkv, module.clip_qkv)
        heads = fused.unflatten(-1, (3, module.n_heads, module.head_dim))  # [batch position 3 head d_head]
        query, key, value = (each.transpose(1, 2) for each in heads.unbind(2))
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, module.layer_idx)
        mask = mask_given(module)
        if mask is None:
            hidden = hidden_states.new_zeros(1, 1, 1, key.shape[2]).bool() if attention_mask is None else attention_mask
            mask = _joined(position_bias, hidden)

        def attend(call: AttentionCall) -> tuple[Tensor, Tensor]:
            weights = score(call).float().softmax(-1).to(call.value.dtype)  # [batch head query key]
            return (weights @ call.value).transpose(1, 2), weights

        z, weights = attend_with_hooks(
            AttentionCall(module, query, key, value, mask, module.softmax_scale, None, None), attend
        )
        return module.out_proj(z.flatten(2)), weights

    return forward


def _join(bias: Tensor, hidden: Tensor) -> Tensor:
    """Join ALiBi [head 1 key] (stored for the longest possible prompt) and the hidden keys [batch 1 query key]."""
    keys = hidden.shape[-1]
    return bias[None, ..., bias.shape[-1] - keys :].masked_fill(hidden, torch.finfo(bias.dtype).min)


_joined = Joined(_join)

ROUTE = Route("mpt", "MptAttention", "forward", _TAKES, _replace)
