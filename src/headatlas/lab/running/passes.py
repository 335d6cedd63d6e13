"""Counts forward passes and the tokens in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from headatlas.lab.loading.opened_model import OpenModel


@dataclass
class PassCount:
    """Number of forward passes (full ones and partial reruns) and of tokens in them."""

    passes: int = 0
    tokens: int = 0


@contextmanager
def count_passes(model: OpenModel) -> Iterator[PassCount]:
    """Count forward passes while active, with one hook on the whole model, so partial reruns stay possible."""
    count = PassCount()

    def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        count.passes += 1
        count.tokens += read.shape[0] * read.shape[1] if isinstance(read, Tensor) else 0

    handle = model.model.register_forward_pre_hook(entering, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()
