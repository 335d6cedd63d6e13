"""GPT-Neo, GPT-J, CodeGen and GPT-NeoX-Japanese: attention in a separate method `_attn`, which is wrapped."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.families.routes import Route
from headatlas.lab.hooks.attention_interface import AttentionCall, attached, attend_with_hooks, mask_given

_TAKES = ("query", "key", "value", "attention_mask")
Scaling = Callable[[nn.Module], float]


def _wrap(scaling: Scaling) -> Callable[[nn.Module, Callable[..., Any]], Callable[..., Any]]:
    """A function that replaces a module's `_attn` with one that runs hooks; both return [batch head query d_head]."""

    def replace(module: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
        def attention(
            query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            if not attached(module):
                found: tuple[Tensor, Tensor] = own(query, key, value, attention_mask)
                return found
            mask = mask_given(module)
            if mask is None:
                mask = _whole_mask(module, query, key, attention_mask)
            unhindered = getattr(type(module), own.__name__).__get__(_Unhindered(module, key.shape[2]))

            def attend(call: AttentionCall) -> tuple[Tensor, Tensor | None]:
                output, weights = unhindered(call.query, call.key, call.value, call.mask)
                return output.transpose(1, 2), weights

            z, weights = attend_with_hooks(
                AttentionCall(module, query, key, value, mask, scaling(module), None, None), attend
            )
            return z.transpose(1, 2), weights

        return attention

    return replace


def _whole_mask(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The full additive mask: the mask the model passes on, plus the module's own causal triangle or window."""
    queries, keys = query.shape[2], key.shape[2]
    if mask is None:
        mask = query.new_zeros(1, 1, queries, keys, dtype=torch.float32)
    own: Tensor | None = getattr(module, "bias", None)
    if own is None:
        return mask
    return mask.masked_fill(~own[:, :, keys - queries : keys, :keys], torch.finfo(mask.dtype).min)


class _Unhindered:
    """Proxy of an attention module that masks nothing itself, for calls whose mask is already complete."""

    def __init__(self, module: nn.Module, keys: int) -> None:
        self._module, self._keys = module, keys

    @property
    def bias(self) -> Tensor:
        """A boolean mask that hides nothing, [1 1 key key]."""
        device = next(self._module.parameters()).device
        return torch.ones(1, 1, self._keys, self._keys, dtype=torch.bool, device=device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _by(attribute: str) -> Scaling:
    return lambda module: 1.0 / float(getattr(module, attribute))


ROUTES = (
    Route("gpt_neo", "GPTNeoSelfAttention", "_attn", _TAKES, _wrap(lambda _: 1.0)),
    Route("gptj", "GPTJAttention", "_attn", _TAKES, _wrap(_by("scale_attn"))),
    Route("codegen", "CodeGenAttention", "_attn", _TAKES, _wrap(_by("scale_attn"))),
    Route("gpt_neox_japanese", "GPTNeoXJapaneseAttention", "_attn", _TAKES, _wrap(_by("norm_factor"))),
)
