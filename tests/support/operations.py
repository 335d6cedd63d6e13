"""What a computation costs, without a clock: the largest tensor it makes, and how often it does an operation."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from headatlas.lab import OpenModel


class Work(TorchDispatchMode):
    """While active, notes what torch's operations return.

    Attributes:
        bytes: of the largest tensor.
        matrices: by operation, such as 'linalg_cholesky_ex', how many matrices its results hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.matrices: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        for number, each in enumerate(result if isinstance(result, tuple | list) else [result]):
            if isinstance(each, Tensor) and 0 not in each.stride():  # an expanded tensor holds less
                self.bytes = max(self.bytes, each.numel() * each.element_size())
                if not number and each.ndim > 1:
                    self.matrices[func.overloadpacket.__name__] += each.shape[:-2].numel()
        return result


@contextmanager
def tokens_run(model: OpenModel) -> Iterator[list[int]]:
    """While active, counts the tokens that each MLP of a model reads, by layer."""
    read = [0] * model.anatomy.layers

    def counting(layer: int) -> Any:
        def count(_: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
            read[layer] += args[0].shape[:-1].numel()

        return count

    handles = [
        block.mlp.register_forward_pre_hook(counting(layer))  # type: ignore[union-attr, operator]
        for layer, block in enumerate(model.anatomy.blocks)
    ]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()
