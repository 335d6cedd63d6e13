"""The one seam into every model: transformers' attention registry.

A model opened here runs attention through `_seam`, which hands the real work to the implementation the model would
have used anyway (so that doing nothing changes no bit). Rewrites change what it is called with, before it runs; taps
look at q, k, v and z, or replace z, after it. Both halves are registered, the function and its mask: without the mask
function a custom attention would silently see the future.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from headatlas.errors import HeadatlasError

# What an attention function may be told without our having to do anything about it: it changes neither the
# weights nor z, or it has already been turned into the mask.
_HARMLESS = {
    "is_causal",
    "sliding_window",
    "use_cache",
    "cache_position",
    "position_ids",
    "output_attentions",
    "output_hidden_states",
    "position_embeddings",
    "logits_to_keep",
    "output_router_logits",
}
_HONOURED = {"softcap", "s_aux"}


@dataclass(frozen=True)
class Call:
    """What one layer's attention was called with.

    Shapes: query [batch head query d_head], key and value [batch kv_head key d_head], mask broadcastable to
    [batch head query key] (boolean: True where it may look; float: added to the scores) or None for plain causal.
    Where a rewrite has given query heads keys or values of their own, there are as many kv_heads as heads. Where
    `pattern` is set, the weights are not those that query and key give: ask it.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    sinks: Tensor | None  # [head]: an extra logit per head that takes weight and gives nothing
    pattern: "EditedPattern | None" = None


class EditedPattern(Protocol):
    """Attention weights changed between the scores and z."""

    def rows(self, call: Call, heads: Tensor, positions: Tensor) -> Tensor:
        """The weights in use, [batch row head key] in float32, of the given heads and query positions."""

    def attend(self, call: Call, z: Tensor) -> Tensor:
        """z [batch query head d_head] with what follows from the changed weights put in its place."""


Rewrite = Callable[[Call], Call]


class Tap(Protocol):
    """Looks at one layer's attention, and may return another z."""

    def __call__(self, call: Call, z: Tensor) -> Tensor | None:
        """`z` is [batch query head d_head]; None leaves it as it is."""


_rewrites: WeakKeyDictionary[nn.Module, list[Rewrite]] = WeakKeyDictionary()
_taps: WeakKeyDictionary[nn.Module, list[Tap]] = WeakKeyDictionary()


@contextmanager
def tapped(taps: dict[nn.Module, Tap]) -> Iterator[None]:
    """Attach a tap to each attention module; they come off again whatever happens inside."""
    for module, tap in taps.items():
        _taps.setdefault(module, []).append(tap)
    try:
        yield
    finally:
        for module, tap in taps.items():
            _taps[module].remove(tap)


@contextmanager
def rewritten(rewrites: dict[nn.Module, Rewrite]) -> Iterator[None]:
    """Attach a rewrite to each attention module, which changes its call before attention runs; restored as `tapped`."""
    for module, rewrite in rewrites.items():
        _rewrites.setdefault(module, []).append(rewrite)
    try:
        yield
    finally:
        for module, rewrite in rewrites.items():
            _rewrites[module].remove(rewrite)


def attached(module: nn.Module) -> bool:
    """Whether anything is attached to an attention module."""
    return bool(_rewrites.get(module) or _taps.get(module))


class _Ungrouped:
    """An attention module as its implementation should see it when every query head has a key and value of its own."""

    num_key_value_groups = 1

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _seam(implementation: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **extra: Any,
    ) -> tuple[Tensor, Tensor | None]:
        function = implementation(module)
        rewrites, taps = _rewrites.get(module), _taps.get(module)
        if not rewrites and not taps:
            z, weights = function(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **extra
            )  # z: [batch query head d_head]
            return z, weights
        _refuse_unknown(module, extra)
        call = Call(
            module,
            query,
            key,
            value,
            attention_mask,
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            extra.get("softcap"),
            extra.get("s_aux"),
        )
        for rewrite in rewrites or ():
            call = rewrite(call)
        runner = module if call.key.shape[1] == key.shape[1] else _Ungrouped(module)
        z, weights = function(
            runner, call.query, call.key, call.value, call.mask, scaling=scaling, dropout=dropout, **extra
        )
        if call.pattern is not None:
            z, weights = call.pattern.attend(call, z), None
        for tap in taps or ():
            replaced = tap(call, z)
            if replaced is not None:
                z = replaced
        return z, weights

    return attention


def _refuse_unknown(module: nn.Module, extra: dict[str, Any]) -> None:
    strange = sorted(name for name, value in extra.items() if value is not None and name not in _HARMLESS | _HONOURED)
    if strange:
        raise HeadatlasError(
            f"{type(module).__name__} passes {', '.join(strange)} to its attention, which headatlas does not know "
            "how to honour; measuring it could be silently wrong, so this model is refused"
        )


def _sdpa(module: nn.Module) -> Callable[..., Any]:
    return sdpa_attention_forward  # type: ignore[no-any-return]


def _eager(module: nn.Module) -> Callable[..., Any]:
    return sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[no-any-return]


# By the implementation a model would use without us: the name of ours that wraps it.
SEAMS = {"sdpa": "headatlas_sdpa", "eager": "headatlas_eager"}
for _plain, _inner in (("sdpa", _sdpa), ("eager", _eager)):
    AttentionInterface.register(SEAMS[_plain], _seam(_inner))
    AttentionMaskInterface.register(SEAMS[_plain], ALL_MASK_ATTENTION_FUNCTIONS[_plain])
