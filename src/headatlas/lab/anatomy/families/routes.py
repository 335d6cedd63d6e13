"""How a family's attention is hooked without the registry, and the parts that several families share."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall


@dataclass(frozen=True)
class Route:
    """How to hook the attention of one family.

    Attributes:
        family: model type in the configuration.
        attention: class name of the attention modules.
        function: name of the method replaced on each module while the model is open.
        takes: parameter names of that method, in the version of transformers this was written for.
        replace: (attention module, its own method) -> the replacement.
        implementations: attention implementations with which the class runs that method.
        unsupported: why a module cannot be measured, or None.
        notes: remarks of `headatlas doctor` on a model with this configuration.
        writes_in_place: whether blocks add to the residual stream in place.
    """

    family: str
    attention: str
    function: str
    takes: tuple[str, ...]
    replace: Callable[[nn.Module, Callable[..., Any]], Callable[..., Any]]
    implementations: tuple[str, ...] = ("eager",)
    unsupported: Callable[[nn.Module], str | None] = lambda _: None
    notes: Callable[[Any], list[str]] = lambda _: []
    writes_in_place: bool = False

    def problem(self, module: nn.Module) -> str | None:
        """Why a module of this class cannot be hooked, or None."""
        own = getattr(type(module), self.function, None)
        names = tuple(inspect.signature(own).parameters)[1:] if own else ()
        if names != self.takes:
            return f"{self.attention}.{self.function} of this version of transformers has another shape"
        return self.unsupported(module)


def score(call: AttentionCall) -> Tensor:
    """Attention scores of a call plus its mask, in the model's dtype: [batch head query key]."""
    scores = call.query @ per_head(call.key, call).mT * call.scaling
    assert call.mask is not None and call.mask.dtype != torch.bool  # these families use additive masks only
    return scores + call.mask


def per_head(each: Tensor, call: AttentionCall) -> Tensor:
    """Keys or values [batch kv_head key d_head], repeated per query head; a single kv_head is left to broadcasting."""
    if each.shape[1] in (1, call.query.shape[1]):
        return each
    return each.repeat_interleave(call.query.shape[1] // each.shape[1], 1)


class Joined:
    """Joins ALiBi and mask into one tensor, cached while in use, since every layer gets the same two.

    Args:
        join: (ALiBi, mask, further call arguments) -> joined mask.
    """

    def __init__(self, join: Callable[..., Tensor]) -> None:
        self._join = join
        self._last: tuple[ReferenceType[Tensor], ...] = ()

    def __call__(self, bias: Tensor, mask: Tensor, *others: float) -> Tensor:
        held = [each() for each in self._last]
        if held and held[0] is bias and held[1] is mask and held[2] is not None:
            return held[2]
        joined = self._join(bias, mask, *others)
        self._last = ref(bias), ref(mask), ref(joined)
        return joined
