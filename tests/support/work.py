"""Counts the work of a measurement: tokens through blocks, of whole runs and of partial reruns."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from headatlas.lab import OpenModel


@dataclass
class Work:
    """Tokens through all blocks: a token through half of them counts half."""

    tokens: float = 0.0


@contextmanager
def tokens_through_blocks(model: OpenModel) -> Iterator[Work]:
    """Count while active, by the MLP of each block, so that partial reruns stay possible."""
    work, blocks = Work(), model.anatomy.blocks

    def passed(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        work.tokens += args[0].numel() / args[0].shape[-1] / len(blocks)

    handles = [block.mlp.register_forward_hook(passed) for block in blocks]  # type: ignore[union-attr, operator]
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()
