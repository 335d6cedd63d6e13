"""Hooks on attention, placed through transformers' attention registry (AttentionInterface).

An open model runs attention through `_hookable`, which calls the implementation the model would have used anyway; with
no hook attached, not one bit changes. Pre-hooks change the arguments of the call before attention runs. Hooks read q,
k, v and z after it, and may replace z. The mask function is registered too: a custom attention function without one
would let queries see future tokens. Families that bypass the registry call `attend_with_hooks` themselves
(`headatlas.lab.anatomy.families`).

z is the input of the output projection. Some models gate or normalise the attention output before the projection;
`read_z_at` registers them, and their hooks run at the projection's input.

This module is long because everything that touches the attention registry stands together, where it can be checked.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from headatlas.errors import HeadatlasError

# Keyword arguments we can ignore: they do not affect attention weights or z, or are already reflected in the mask.
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
class AttentionCall:
    """The arguments of one layer's attention function.

    Shapes: query [batch head query d_head], key and value [batch kv_head key d_head]. The mask is broadcastable to
    [batch head query key]: boolean (True = visible), float (added to the scores), or None for plain causal. If a
    pre-hook gave query heads their own keys or values, kv_head counts query heads. If `pattern` is set, it computes the
    attention weights; query and key do not. `attended` is the attention output [batch query head d_head], set only
    when z differs from it because of a gate or norm.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    sinks: Tensor | None  # [head]: logit of an attention sink without a value; it takes weight and adds nothing to z
    pattern: "EditedPattern | None" = None
    attended: Tensor | None = None


class EditedPattern(Protocol):
    """Attention weights edited after the scores and before z."""

    def rows(self, call: AttentionCall, heads: Tensor, positions: Tensor) -> Tensor:
        """Attention weights in use, [batch row head key] in float32, at the given heads and query positions."""

    def attend(self, call: AttentionCall, z: Tensor) -> Tensor:
        """z [batch query head d_head] computed from the edited weights."""


AttentionPreHook = Callable[[AttentionCall], AttentionCall]


class AttentionHook(Protocol):
    """A forward hook on one layer's attention: reads the call and z, and may replace z."""

    def __call__(self, call: AttentionCall, z: Tensor) -> Tensor | None:
        """Return a new z [batch query head d_head], or None to keep `z`."""


Between = Literal["gate", "norm", "mixed"]


@dataclass
class ProjectionReader:
    """The output projection of an attention module whose z differs from its attention output.

    Attributes:
        projection: the linear map that reads z.
        between: how z depends on the attention output. 'gate': elementwise product with a factor that does not depend
            on attention. 'norm': each head's z depends on its own attention output, but not as a product. 'mixed': it
            also depends on the attention output of other heads.
    """

    projection: nn.Module
    between: Between
    _pending: tuple[AttentionCall, Tensor] | None = None
    _handle: RemovableHandle | None = None

    def wait(self, call: AttentionCall, attended: Tensor) -> None:
        """Keep the attention output until the projection runs."""
        self._pending = call, attended

    def listen(self, attention: nn.Module) -> None:
        """Hook the projection while the attention module has hooks, and unhook it when none is left."""
        if _hooks.get(attention) and self._handle is None:
            self._handle = self.projection.register_forward_pre_hook(self._show, prepend=True)
        elif not _hooks.get(attention) and self._handle is not None:
            self._handle.remove()
            self._handle = self._pending = None

    def _show(self, _: nn.Module, read: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._pending is None:
            return None  # the projection ran outside attention
        (call, attended), self._pending = self._pending, None
        call = replace(call, attended=attended)
        z = read[0].reshape(attended.shape)
        seen = _shown(call, z)
        return None if seen is z else (seen.reshape(read[0].shape), *read[1:])


routed: WeakSet[nn.Module] = WeakSet()  # attention modules that `families` routes here without the registry
_masks: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()
_readers: WeakKeyDictionary[nn.Module, ProjectionReader] = WeakKeyDictionary()
_pre_hooks: WeakKeyDictionary[nn.Module, list[AttentionPreHook]] = WeakKeyDictionary()
_hooks: WeakKeyDictionary[nn.Module, list[AttentionHook]] = WeakKeyDictionary()


@contextmanager
def attention_hooks(hooks: dict[nn.Module, AttentionHook]) -> Iterator[None]:
    """Attach a hook to each attention module; all are removed on exit, also after an error."""
    for module, hook in hooks.items():
        _hooks.setdefault(module, []).append(hook)
        _listen(module)
    try:
        yield
    finally:
        for module, hook in hooks.items():
            _hooks[module].remove(hook)
            _listen(module)


@contextmanager
def attention_pre_hooks(pre_hooks: dict[nn.Module, AttentionPreHook]) -> Iterator[None]:
    """Attach a pre-hook to each attention module, which changes the call before attention runs; removed on exit."""
    for module, pre_hook in pre_hooks.items():
        _pre_hooks.setdefault(module, []).append(pre_hook)
    try:
        yield
    finally:
        for module, pre_hook in pre_hooks.items():
            _pre_hooks[module].remove(pre_hook)


@contextmanager
def given_masks(masks: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Replace the mask of each attention module (same shapes as `AttentionCall.mask`); restored on exit."""
    before = {module: _masks[module] for module in masks if module in _masks}
    _masks.update(masks)
    try:
        yield
    finally:
        for module in masks:
            del _masks[module]
        _masks.update(before)


def mask_given(module: nn.Module) -> Tensor | None:
    """The mask that `given_masks` set for an attention module, or None."""
    return _masks.get(module)


def attached(module: nn.Module) -> bool:
    """Whether an attention module has a hook, a pre-hook or a replaced mask."""
    return bool(_pre_hooks.get(module) or _hooks.get(module)) or module in _masks


def read_z_at(module: nn.Module, projection: nn.Module, between: Between) -> None:
    """Record that z of an attention module is the input of `projection`, which differs from its attention output."""
    _readers[module] = ProjectionReader(projection, between)


def projection_reader(module: nn.Module) -> ProjectionReader | None:
    """The registered output projection of an attention module, or None if z is the attention output."""
    return _readers.get(module)


def _listen(module: nn.Module) -> None:
    if (reader := _readers.get(module)) is not None:
        reader.listen(module)


Attend = Callable[[AttentionCall], tuple[Tensor, Tensor | None]]  # call -> attention output, and weights or None


def attend_with_hooks(call: AttentionCall, attend: Attend) -> tuple[Tensor, Tensor | None]:
    """Run one attention call with the hooks of its module: pre-hooks, edited weights, then hooks.

    Args:
        call: as the model makes it.
        attend: the model's own attention.

    Returns:
        The attention output [batch query head d_head], and the model's attention weights (None if they were edited).
    """
    module = call.module
    for pre_hook in _pre_hooks.get(module) or ():
        call = pre_hook(call)
    z, weights = attend(call)
    if call.pattern is not None:
        z, weights = call.pattern.attend(call, z), None
    if (reader := _readers.get(module)) is None:
        return _shown(call, z), weights
    if _hooks.get(module):
        reader.wait(call, z)
    return z, weights


def _shown(call: AttentionCall, z: Tensor) -> Tensor:
    """z after all hooks."""
    for hook in _hooks.get(call.module) or ():
        replaced = hook(call, z)
        if replaced is not None:
            z = replaced
    return z


class _Ungrouped:
    """Proxy of a grouped-query attention module for calls in which every query head has its own key and value."""

    num_key_value_groups = 1

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _hookable(implementation: Callable[..., Any]) -> Callable[..., tuple[Tensor, Tensor | None]]:
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
        if not attached(module):
            z, weights = function(
                module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **extra
            )  # z: [batch query head d_head]
            return z, weights
        _refuse_unknown(module, extra)

        def attend(call: AttentionCall) -> tuple[Tensor, Tensor | None]:
            runner = module if call.key.shape[1] == key.shape[1] else _Ungrouped(module)
            found: tuple[Tensor, Tensor | None] = function(
                runner, call.query, call.key, call.value, call.mask, scaling=scaling, dropout=dropout, **extra
            )
            return found

        call = AttentionCall(
            module,
            query,
            key,
            value,
            _masks.get(module, attention_mask),
            query.shape[-1] ** -0.5 if scaling is None else scaling,
            extra.get("softcap"),
            extra.get("s_aux"),
        )
        return attend_with_hooks(call, attend)

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


# Our registered name for each implementation of transformers.
IMPLEMENTATIONS = {"sdpa": "headatlas_sdpa", "eager": "headatlas_eager"}
for _plain, _inner in (("sdpa", _sdpa), ("eager", _eager)):
    AttentionInterface.register(IMPLEMENTATIONS[_plain], _hookable(_inner))
    AttentionMaskInterface.register(IMPLEMENTATIONS[_plain], ALL_MASK_ATTENTION_FUNCTIONS[_plain])
