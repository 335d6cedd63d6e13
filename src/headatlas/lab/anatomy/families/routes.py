"""What a family says of its attention, and the parts that several families share."""

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
    """How a family's attention is led through the seam.

    Attributes:
        family: the model type of its configuration.
        attention: the name of the class of its attention modules.
        function: the name of the method that is replaced, on the object, while a model is open.
        takes: the names of its parameters, in the version of transformers that this was written for.
        replace: from an attention module and its own function to what runs instead.
        implementations: of attention, with which the class runs that function.
        unsupported: why a module cannot be measured, or None.
        notes: what a doctor says of a model with this configuration.
        writes_in_place: whether its blocks add to a state where it lies.
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
        """Why a module of this class cannot be led through the seam, or None."""
        own = getattr(type(module), self.function, None)
        names = tuple(inspect.signature(own).parameters)[1:] if own else ()
        if names != self.takes:
            return f"{self.attention}.{self.function} of this version of transformers has another shape"
        return self.unsupported(module)


def score(call: AttentionCall) -> Tensor:
    """The scores of a call, its mask added, in the model's dtype: [batch head query key]."""
    scores = call.query @ per_head(call.key, call).mT * call.scaling
    assert call.mask is not None and call.mask.dtype != torch.bool  # these families all add it
    return scores + call.mask


def per_head(each: Tensor, call: AttentionCall) -> Tensor:
    """Keys or values [batch kv_head key d_head], one for each query head, or one for all of them."""
    if each.shape[1] in (1, call.query.shape[1]):
        return each
    return each.repeat_interleave(call.query.shape[1] // each.shape[1], 1)


class Joined:
    """Puts ALiBi and mask into one, which layers share while somebody holds it: they are given the same two.

    Args:
        join: from the two, and whatever else it is called with.
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
