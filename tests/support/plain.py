"""What headatlas measures, by plain hooks on a plain transformers model: slow, short, and without headatlas.

Every number here comes from three places that PyTorch and transformers give to anybody: what an output projection reads
(z of its heads, side by side), the weights that an eager attention module returns, and the logits.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

Run = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # query, key, value -> z and weights, eagerly
Look = Callable[[nn.Module, Tensor, Tensor, Tensor, Run], Tensor]  # module, query, key, value, run -> z
Change = Callable[[Tensor], Tensor]  # z [batch position head d_head] -> the same


@dataclass(frozen=True)
class Layer:
    """An attention layer: its number in the model, its modules by path, and its shape."""

    number: int
    attention: str
    projection: str
    heads: int


@dataclass
class Plain:
    """A transformers model and where its heads are."""

    model: Any
    layers: dict[int, Layer] = field(default_factory=dict)
    _kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, what: str, tokens: Tensor, of: Callable[[Tensor], Any]) -> Any:
        """What is asked for again and again, computed once for each batch of prompts."""
        key = what, tokens.data_ptr()
        if key not in self._kept:
            self._kept[key] = of(tokens)
        return self._kept[key]

    def clean(self, tokens: Tensor) -> Tensor:
        """Logits [batch position vocabulary] of the model as it is."""
        found: Tensor = self.once("logits", tokens, self.logits)
        return found

    def logits(self, tokens: Tensor, changes: Mapping[int, Change] | None = None) -> Tensor:
        """Logits [batch position vocabulary], z of some layers changed before the output projection reads it."""
        with self.changed(changes or {}), torch.no_grad():
            logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits
        return logits

    @contextmanager
    def changed(self, changes: Mapping[int, Change]) -> Iterator[None]:
        """While active, the output projections of some layers read another z."""
        with ExitStack() as stack:
            for number, change in changes.items():
                module = self.model.get_submodule(self.layers[number].projection)
                stack.callback(module.register_forward_pre_hook(self._reading(number, change)).remove)
            yield

    def _reading(self, number: int, change: Change) -> Callable[..., Any]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = args[0].reshape(*args[0].shape[:-1], self.layers[number].heads, -1)
            return (change(z.clone()).reshape(args[0].shape), *args[1:])

        return hook

    def z(self, tokens: Tensor) -> dict[int, Tensor]:
        """What every output projection reads, by layer: [batch position head d_head]."""
        found: dict[int, Tensor] = self.once("z", tokens, self._z)
        return found

    def _z(self, tokens: Tensor) -> dict[int, Tensor]:
        seen: dict[int, Tensor] = {}

        def keep(number: int) -> Change:
            def look(z: Tensor) -> Tensor:
                seen[number] = z.clone()
                return z

            return look

        self.logits(tokens, {number: keep(number) for number in self.layers})
        return seen

    def weights(self, tokens: Tensor) -> dict[str, Tensor]:
        """The weights [batch head query key] that attention modules return, by path."""
        found: dict[str, Tensor] = self.once("weights", tokens, self._weights)
        return found

    def _weights(self, tokens: Tensor) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        length = tokens.shape[1]

        def keep(path: str) -> Callable[..., None]:
            def hook(_: nn.Module, args: Any, output: Any) -> None:
                for each in output if isinstance(output, tuple) else ():
                    if isinstance(each, Tensor) and each.ndim == 4 and each.shape[2:] == (length, length):
                        seen[path] = each
                        if getattr(self.model.get_submodule(path), "sinks", None) is not None:
                            seen[path] = each * self._shares(tokens)[path]

            return hook

        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                if "Attention" in type(module).__name__:
                    stack.callback(module.register_forward_hook(keep(path)).remove)
            with self.implemented("eager"), torch.no_grad():
                self.model(input_ids=tokens, use_cache=False, output_attentions=True)
        return {path: each for path, each in seen.items() if not any(f"{path}." in other for other in seen)}

    def _shares(self, tokens: Tensor) -> dict[str, Tensor]:
        """How much of each row of returned weights goes into z, by path: a sink's part may be taken off afterwards.

        [batch head query 1], the factor that brings weights @ values closest to z.
        """
        found: dict[str, Tensor] = {}
        paths = {module: path for path, module in self.model.named_modules()}

        def look(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, run: Run) -> Tensor:
            z, weights = run(query, key, value)  # [batch position head d_head]
            mixed = weights @ value.repeat_interleave(weights.shape[1] // value.shape[1], 1)
            product, square = z.transpose(1, 2) * mixed, mixed.square()
            found[paths[module]] = product.sum(-1, keepdim=True) / square.sum(-1, keepdim=True)
            return z

        with self.attending(look):
            self.logits(tokens)
        return found

    @contextmanager
    def attending(self, look: "Look") -> Iterator[None]:
        """While active, every attention layer that goes through the registry gives the z that `look` returns."""

        def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *mask: Any, **extra: Any) -> Any:
            eager = sys.modules[type(module).__module__].eager_attention_forward
            return look(module, query, key, value, lambda q, k, v: eager(module, q, k, v, *mask, **extra)), None

        AttentionInterface.register("looked_at", attention)
        AttentionMaskInterface.register("looked_at", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        with self.implemented("looked_at"):
            yield

    @contextmanager
    def implemented(self, how: str) -> Iterator[None]:
        """While active, attention runs another way than the model's own."""
        configs = [part.config for part in self.model.modules() if isinstance(part, PreTrainedModel)]
        own = [(config, config._attn_implementation) for config in configs]
        self.model.set_attn_implementation(how)
        if how == "eager":  # some families read it and cannot be told so
            for config in configs:
                config._attn_implementation = how
        try:
            yield
        finally:
            for config, implementation in own:
                config._attn_implementation = implementation

    def blocks(self) -> list[str]:
        """The paths of all blocks, those without attention too."""
        stack = re.sub(r"\.\d+(\..*)?$", "", self.block(min(self.layers)))
        return [f"{stack}.{number}" for number in range(len(self.model.get_submodule(stack)))]

    def block(self, number: int) -> str:
        """The path of the block that an attention layer is in."""
        found = re.match(r".*?\.\d+(?=\.|$)", self.layers[number].attention)
        assert found
        return found.group()

    def streams(self, tokens: Tensor) -> list[Tensor]:
        """What enters each block, and what leaves the last: [batch position d_model] each."""
        found: list[Tensor] = self.once("streams", tokens, self._streams)
        return found

    def _streams(self, tokens: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []

        def enters(_: nn.Module, args: Any, options: dict[str, Any]) -> None:
            seen.append(args[0] if args else options["hidden_states"])

        def leaves(_: nn.Module, args: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        with ExitStack() as stack:
            blocks = [self.model.get_submodule(path) for path in self.blocks()]
            for block in blocks:
                stack.callback(block.register_forward_pre_hook(enters, with_kwargs=True).remove)
            stack.callback(blocks[-1].register_forward_hook(leaves).remove)
            self.logits(tokens)
        return seen

    def read_as_last(self, tokens: Tensor, stream: Tensor) -> Tensor:
        """The logits that the model gives where its last block has left this stream."""

        def give(_: nn.Module, args: Any, output: Any) -> Any:
            return (stream, *output[1:]) if isinstance(output, tuple) else stream

        handle = self.model.get_submodule(self.blocks()[-1]).register_forward_hook(give)
        try:
            return self.logits(tokens)
        finally:
            handle.remove()


def replacing(head: int, positions: Sequence[int], value: Tensor | float) -> Change:
    """z of a head becomes a value, [... position d_head] or broadcastable to it, at some positions."""

    def change(z: Tensor) -> Tensor:
        z[:, positions, head] = value if isinstance(value, float) else value.to(z)
        return z

    return change


def after(first: Change, second: Change) -> Change:
    """One change after the other."""
    return lambda z: second(first(z))
