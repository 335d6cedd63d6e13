"""One small forward pass in which everything that tells a model's anatomy is written down."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks, routed

LENGTH = 11  # tokens of a probe: no model has 11 heads, so this axis is never mistaken for heads
_TOLERANCE = 1e-4  # relative, for float32; lower dtypes are judged by their own precision


@dataclass(frozen=True)
class Step:
    """One run of one submodule: what it read and what it wrote."""

    module: nn.Module
    read: Tensor
    wrote: Tensor


@dataclass
class TrialPass:
    """What happened in the pass over three prompts; the second is the first with another last token.

    Attributes:
        tokens: [3 position]
        logits: [3 position vocabulary]
        calls: per attention module, in the order they ran, what reached the seam and the z that left it.
        inside: per attention module, the steps of its submodules.
        blocks: the decoder layers in the order they ran, each with what it wrote.
        outside: the steps of modules that are neither in a decoder layer nor hold one, such as the final norm.
    """

    tokens: Tensor
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    blocks: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    calls: dict[nn.Module, list[tuple[AttentionCall, Tensor]]] = field(default_factory=dict)
    inside: dict[nn.Module, list[Step]] = field(default_factory=dict)
    outside: list[Step] = field(default_factory=list)

    @property
    def stream(self) -> Tensor | None:
        """What the last decoder layer wrote, [3 position d_model]."""
        return self.blocks[-1][1] if self.blocks else None


def precision(dtype: torch.dtype) -> float:
    """How far apart, relative to the largest, numbers may lie that ought to be equal."""
    return max(_TOLERANCE, 8 * torch.finfo(dtype).eps)


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected number; infinite where there is a NaN."""
    found, expected = found.to(expected.device).float(), expected.float()
    difference = ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()
    return difference if difference == difference else float("inf")


def tokens_for(model: nn.Module) -> Tensor:
    """Three prompts of random tokens, the second equal to the first but for its last token: [3 position]."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    vocabulary = embedding.shape[0]
    first, third = torch.randint(vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[-1] = (first[-1] + 1) % vocabulary
    return torch.stack([first, second, third]).to(embedding.device)


def block_path(path: str) -> str:
    """The path of the decoder layer that holds a module: up to its number in the stack, `model.layers.3`."""
    found = re.match(r".*?\.\d+(?=\.|$)", path)
    return found.group() if found else path.rpartition(".")[0]


@torch.no_grad()
def run_trial_pass(model: nn.Module) -> TrialPass:
    """Run the pass.

    Watched for attention are modules with a layer index, as the registry asks of them, and those of families that are
    led through the seam without it.
    """
    seen = TrialPass(tokens_for(model))
    attention = {
        path: module
        for path, module in model.named_modules()
        if isinstance(getattr(module, "layer_idx", None), int) or module in routed
    }
    # Where a decoder layer has an index too, it is watched in vain: only attention reaches the seam.
    with (
        attention_hooks({module: _note(seen, module) for module in attention.values()}),
        _watching(model, attention, seen),
    ):
        seen.logits = model(seen.tokens, use_cache=False).logits
    return seen


def _note(seen: TrialPass, module: nn.Module) -> AttentionHook:
    def tap(call: AttentionCall, z: Tensor) -> None:
        seen.calls.setdefault(module, []).append((call, z))

    return tap


@contextmanager
def _watching(model: nn.Module, attention: dict[str, nn.Module], seen: TrialPass) -> Iterator[None]:
    with ExitStack() as stack:

        def watch(module: nn.Module, steps: list[Step]) -> None:
            def hook(module: nn.Module, read: tuple[Any, ...], wrote: Any) -> None:
                if read and isinstance(read[0], Tensor) and isinstance(wrote, Tensor):
                    steps.append(Step(module, read[0], wrote))

            stack.callback(module.register_forward_hook(hook).remove)

        def forget(module: nn.Module, *_: Any) -> None:
            if module not in seen.calls:
                seen.inside[module].clear()  # not attention: what a whole layer wrote need not be kept

        for module in attention.values():
            stack.callback(module.register_forward_hook(forget).remove)
            for child in module.modules():
                if child is not module:
                    watch(child, seen.inside.setdefault(module, []))

        def follow(block: nn.Module, _read: tuple[Any, ...], wrote: Any) -> None:
            seen.blocks.append((block, wrote[0] if isinstance(wrote, tuple) else wrote))

        blocks = {block_path(path) for path in attention}
        blocks = {path for path in blocks if path.rpartition(".")[2].isdigit()} or blocks  # others are beside the stack
        stacks = {block.rpartition(".")[0] for block in blocks}
        for path, module in model.named_modules():
            holds = any(block == path or block.startswith(f"{path}.") for block in blocks)
            inside = any(path.startswith(f"{block}.") for block in blocks)
            if path and not holds and not inside:
                watch(module, seen.outside)
            if path.rpartition(".")[0] in stacks:  # a layer of the stack, with attention or without
                stack.callback(module.register_forward_hook(follow).remove)
        yield
