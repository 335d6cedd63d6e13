"""The one seam into every model: transformers' attention registry.

A model opened here runs attention through `_seam`, which hands the real work to the implementation the model would
have used anyway (so that doing nothing changes no bit). Rewrites change what it is called with, before it runs; taps
look at q, k, v and z, or replace z, after it. Both halves are registered, the function and its mask: without the mask
function a custom attention would silently see the future. Families that do not use the registry arrive by `through`
(`headatlas.lab.anatomy.families`).

z is what the output projection reads. Where a model gates or norms what attention gives on the way there, `read_at`
says so, and taps run at the projection's input instead.
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
class AttentionCall:
    """What one layer's attention was called with.

    Shapes: query [batch head query d_head], key and value [batch kv_head key d_head], mask broadcastable to
    [batch head query key] (boolean: True where it may look; float: added to the scores) or None for plain causal.
    Where a rewrite has given query heads keys or values of their own, there are as many kv_heads as heads. Where
    `pattern` is set, the weights are not those that query and key give: ask it. `attended` is what attention gave,
    [batch query head d_head], where a tap is shown a z that is something else: behind a gate or a norm.
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
    attended: Tensor | None = None


class EditedPattern(Protocol):
    """Attention weights changed between the scores and z."""

    def rows(self, call: AttentionCall, heads: Tensor, positions: Tensor) -> Tensor:
        """The weights in use, [batch row head key] in float32, of the given heads and query positions."""

    def attend(self, call: AttentionCall, z: Tensor) -> Tensor:
        """z [batch query head d_head] with what follows from the changed weights put in its place."""


AttentionPreHook = Callable[[AttentionCall], AttentionCall]


class AttentionHook(Protocol):
    """Looks at one layer's attention, and may return another z."""

    def __call__(self, call: AttentionCall, z: Tensor) -> Tensor | None:
        """`z` is [batch query head d_head]; None leaves it as it is."""


Between = Literal["gate", "norm", "mixed"]


@dataclass
class ProjectionReader:
    """The output projection of an attention module that does not read what attention gives.

    Attributes:
        projection: what reads z.
        between: 'gate' where z is what attention gives times something that does not depend on it, feature by feature;
            'norm' where each head's z depends on what that head attended to, in another way; 'mixed' where it depends
            on what the other heads attended to as well.
    """

    projection: nn.Module
    between: Between
    _pending: tuple[AttentionCall, Tensor] | None = None
    _handle: RemovableHandle | None = None

    def wait(self, call: AttentionCall, attended: Tensor) -> None:
        """Keep what attention gave until the projection reads it."""
        self._pending = call, attended

    def listen(self, attention: nn.Module) -> None:
        """Show z to the taps of a module whenever the projection reads it, or stop where there are none."""
        if _taps.get(attention) and self._handle is None:
            self._handle = self.projection.register_forward_pre_hook(self._show, prepend=True)
        elif not _taps.get(attention) and self._handle is not None:
            self._handle.remove()
            self._handle = self._pending = None

    def _show(self, _: nn.Module, read: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._pending is None:
            return None  # read on its own, outside attention
        (call, attended), self._pending = self._pending, None
        call = replace(call, attended=attended)
        z = read[0].reshape(attended.shape)
        seen = _shown(call, z)
        return None if seen is z else (seen.reshape(read[0].shape), *read[1:])


routed: WeakSet[nn.Module] = WeakSet()  # attention modules of families that are led through the seam by `families`
_masks: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()
_readers: WeakKeyDictionary[nn.Module, ProjectionReader] = WeakKeyDictionary()
_rewrites: WeakKeyDictionary[nn.Module, list[AttentionPreHook]] = WeakKeyDictionary()
_taps: WeakKeyDictionary[nn.Module, list[AttentionHook]] = WeakKeyDictionary()


@contextmanager
def attention_hooks(taps: dict[nn.Module, AttentionHook]) -> Iterator[None]:
    """Attach a tap to each attention module; they come off again whatever happens inside."""
    for module, tap in taps.items():
        _taps.setdefault(module, []).append(tap)
        _listen(module)
    try:
        yield
    finally:
        for module, tap in taps.items():
            _taps[module].remove(tap)
            _listen(module)


@contextmanager
def attention_pre_hooks(rewrites: dict[nn.Module, AttentionPreHook]) -> Iterator[None]:
    """Attach a rewrite to each attention module, which changes its call before attention runs; restored as `tapped`."""
    for module, rewrite in rewrites.items():
        _rewrites.setdefault(module, []).append(rewrite)
    try:
        yield
    finally:
        for module, rewrite in rewrites.items():
            _rewrites[module].remove(rewrite)


@contextmanager
def given_masks(masks: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Give each attention module a mask, as that of a `Call`, instead of the one its model makes."""
    before = {module: _masks[module] for module in masks if module in _masks}
    _masks.update(masks)
    try:
        yield
    finally:
        for module in masks:
            del _masks[module]
        _masks.update(before)


def mask_given(module: nn.Module) -> Tensor | None:
    """The mask that `masked` gives an attention module, if any."""
    return _masks.get(module)


def attached(module: nn.Module) -> bool:
    """Whether anything is attached to an attention module."""
    return bool(_rewrites.get(module) or _taps.get(module)) or module in _masks


def read_z_at(module: nn.Module, projection: nn.Module, between: Between) -> None:
    """Say that z of an attention module is what its projection reads, which is not what its attention gives."""
    _readers[module] = ProjectionReader(projection, between)


def projection_reader(module: nn.Module) -> ProjectionReader | None:
    """Where z of an attention module is read, or None where it is what attention gives."""
    return _readers.get(module)


def _listen(module: nn.Module) -> None:
    if (reader := _readers.get(module)) is not None:
        reader.listen(module)


Attend = Callable[[AttentionCall], tuple[Tensor, Tensor | None]]  # to what attention gives, and its weights or None


def attend_with_hooks(call: AttentionCall, attend: Attend) -> tuple[Tensor, Tensor | None]:
    """Attention with all that is attached to its module: rewrites before it, edited weights, and taps after it.

    Args:
        call: as the model makes it.
        attend: the model's own attention.

    Returns:
        What attention gives [batch query head d_head], and its weights where the model's own are still the right ones.
    """
    module = call.module
    for rewrite in _rewrites.get(module) or ():
        call = rewrite(call)
    z, weights = attend(call)
    if call.pattern is not None:
        z, weights = call.pattern.attend(call, z), None
    if (reader := _readers.get(module)) is None:
        return _shown(call, z), weights
    if _taps.get(module):
        reader.wait(call, z)
    return z, weights


def _shown(call: AttentionCall, z: Tensor) -> Tensor:
    """z after all taps."""
    for tap in _taps.get(call.module) or ():
        replaced = tap(call, z)
        if replaced is not None:
            z = replaced
    return z


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


# By the implementation a model would use without us: the name of ours that wraps it.
IMPLEMENTATIONS = {"sdpa": "headatlas_sdpa", "eager": "headatlas_eager"}
for _plain, _inner in (("sdpa", _sdpa), ("eager", _eager)):
    AttentionInterface.register(IMPLEMENTATIONS[_plain], _seam(_inner))
    AttentionMaskInterface.register(IMPLEMENTATIONS[_plain], ALL_MASK_ATTENTION_FUNCTIONS[_plain])
