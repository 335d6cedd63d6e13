"""Counts what a model is asked to read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from headatlas.lab.loading.opening import OpenModel


@dataclass
class PassCount:
    """Runs of a model, whole or from some layer on, and the tokens in them."""

    passes: int = 0
    tokens: int = 0


@contextmanager
def count_passes(model: OpenModel) -> Iterator[PassCount]:
    """Count while active. It attaches to the model as a whole, so nothing that is skipped otherwise is run for it."""
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
