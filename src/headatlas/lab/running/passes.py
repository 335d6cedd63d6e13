"""Counts forward passes and the tokens in them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from headatlas.lab.loading.opened_model import OpenModel


@dataclass
class PassCount:
    """The work of forward passes.

    Attributes:
        passes: their number, partial reruns included.
        tokens: that passed all layers; a token that passes half of the layers counts half.
    """

    passes: int = 0
    tokens: float = 0.0


@contextmanager
def count_passes(model: OpenModel) -> Iterator[PassCount]:
    """Count the work of forward passes while active.

    Tokens are counted at the first matrix of each block outside attention. A hook on a block or on its attention would
    keep partial reruns from skipping layers; these hooks do not.
    """
    count, share = PassCount(), 1 / model.anatomy.layers

    def entering(*_: object) -> None:
        count.passes += 1

    def through(_: nn.Module, args: tuple[Any, ...]) -> None:
        count.tokens += share * (args[0].numel() // args[0].shape[-1])

    attention = {part for module in model.anatomy.attention.values() for part in module.modules()}
    with ExitStack() as stack:
        stack.callback(model.model.register_forward_pre_hook(entering).remove)
        for block in model.anatomy.blocks:
            stack.callback(_first_matrix(block, attention).register_forward_pre_hook(through).remove)
        yield count


def _first_matrix(block: nn.Module, attention: set[nn.Module]) -> nn.Module:
    """The first module of a block with a matrix that does not belong to attention."""
    matrices = (part for part in block.modules() if getattr(getattr(part, "weight", None), "ndim", 0) >= 2)
    return next((part for part in matrices if part not in attention), block)
