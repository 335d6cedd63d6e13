"""BLOOM: attention inside the module's forward, with ALiBi added to the scores and the stream added to the output."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.families.routes import Joined, Route, score
from headatlas.lab.hooks.attention_interface import AttentionCall, attached, attend_with_hooks, mask_given

_TAKES = (
    "hidden_states", "residual", "alibi", "attention_mask", "layer_past", "use_cache", "output_attentions", "kwargs",
)  # fmt: skip


def _replace(module: Any, own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(
        hidden_states: Tensor,
        residual: Tensor,
        alibi: Tensor,
        attention_mask: Tensor,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if not attached(module):
            found: tuple[Tensor, Tensor | None] = own(
                hidden_states, residual, alibi, attention_mask, layer_past, use_cache, output_attentions, **others
            )
            return found
        query, key, value = module._reshape(module.query_key_value(hidden_states))
        if layer_past is not None:
            key, value = layer_past.update(key, value, module.layer_idx)
        given = mask_given(module)
        mask = _joined(alibi, attention_mask) if given is None else given

        def attend(call: AttentionCall) -> tuple[Tensor, Tensor]:
            scores = _score(call, alibi, attention_mask) if call.mask is mask and given is None else score(call)
            weights = scores.softmax(-1, dtype=torch.float32).to(call.query.dtype)  # [batch head query key]
            return (weights @ call.value).transpose(1, 2), weights

        z, weights = attend_with_hooks(
            AttentionCall(module, query, key, value, mask, module.inv_norm_factor, None, None), attend
        )
        return residual + module.dense(z.flatten(2)), weights

    return forward


def _score(call: AttentionCall, alibi: Tensor, mask: Tensor) -> Tensor:
    """Scores rounded as the model rounds them: ALiBi [batch*head 1 key] is added first, then the mask."""
    query, key = call.query.flatten(0, 1), call.key.flatten(0, 1)
    scores = alibi.baddbmm(query, key.mT, beta=1.0, alpha=call.scaling)
    return scores.view(*call.query.shape[:3], -1) + mask


_joined = Joined(lambda alibi, mask: alibi.view(len(mask), -1, *alibi.shape[1:]) + mask)


def _unsupported(module: nn.Module) -> str | None:
    if module.pretraining_tp > 1 and module.slow_but_exact:  # type: ignore[operator]
        return "its output projection runs in slices (slow_but_exact); set that to False"
    return None if module.beta == 1.0 else "it scales ALiBi"


ROUTE = Route("bloom", "BloomAttention", "forward", _TAKES, _replace, unsupported=_unsupported)
