"""A small forward pass that records everything needed to infer a model's anatomy."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks, routed

LENGTH = 11  # tokens of a trial prompt: no model has 11 heads, so this axis cannot be mistaken for heads
_TOLERANCE = 1e-4  # relative, for float32; lower dtypes use their own precision


@dataclass(frozen=True)
class Step:
    """One run of one submodule: its input and its output."""

    module: nn.Module
    read: Tensor
    wrote: Tensor


@dataclass
class TrialPass:
    """Records of the forward pass over three prompts; the second differs from the first in its last token only.

    Attributes:
        tokens: [3 position]
        logits: [3 position vocabulary]
        calls: attention calls and their z, by attention module, in execution order.
        inside: runs of each attention module's submodules.
        blocks: decoder layers in execution order, each with its output.
        outside: runs of modules that neither lie in a decoder layer nor contain one, such as the final norm.
    """

    tokens: Tensor
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    blocks: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    calls: dict[nn.Module, list[tuple[AttentionCall, Tensor]]] = field(default_factory=dict)
    inside: dict[nn.Module, list[Step]] = field(default_factory=dict)
    outside: list[Step] = field(default_factory=list)

    @property
    def stream(self) -> Tensor | None:
        """The output of the last decoder layer, [3 position d_model]."""
        return self.blocks[-1][1] if self.blocks else None


def precision(dtype: torch.dtype) -> float:
    """Relative tolerance within which two computations of the same number must agree."""
    return max(_TOLERANCE, 8 * torch.finfo(dtype).eps)


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected number; infinite if any is NaN."""
    found, expected = found.to(expected.device).float(), expected.float()
    difference = ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()
    return difference if difference == difference else float("inf")


def tokens_for(model: nn.Module) -> Tensor:
    """Three random prompts, [3 position]; the second differs from the first in its last token only."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    vocabulary = embedding.shape[0]
    first, third = torch.randint(vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[-1] = (first[-1] + 1) % vocabulary
    return torch.stack([first, second, third]).to(embedding.device)


def block_path(path: str) -> str:
    """The path of the decoder layer that holds a module, up to the layer number: `model.layers.3`."""
    found = re.match(r".*?\.\d+(?=\.|$)", path)
    return found.group() if found else path.rpartition(".")[0]


@torch.no_grad()
def run_trial_pass(model: nn.Module) -> TrialPass:
    """Run three short random prompts and record every attention call and submodule run.

    Modules with a layer index (which the registry requires) and modules of routed families are watched for attention.
    """
    seen = TrialPass(tokens_for(model))
    attention = {
        path: module
        for path, module in model.named_modules()
        if isinstance(getattr(module, "layer_idx", None), int) or module in routed
    }
    # Some decoder layers have an index too; they are watched without effect, as only attention calls the hooks.
    with (
        attention_hooks({module: _note(seen, module) for module in attention.values()}),
        _watching(model, attention, seen),
    ):
        seen.logits = model(seen.tokens, use_cache=False).logits
    return seen


def _note(seen: TrialPass, module: nn.Module) -> AttentionHook:
    def hook(call: AttentionCall, z: Tensor) -> None:
        seen.calls.setdefault(module, []).append((call, z))

    return hook


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
                seen.inside[module].clear()  # not attention: do not keep a whole layer's outputs

        for module in attention.values():
            stack.callback(module.register_forward_hook(forget).remove)
            for child in module.modules():
                if child is not module:
                    watch(child, seen.inside.setdefault(module, []))

        def follow(block: nn.Module, _read: tuple[Any, ...], wrote: Any) -> None:
            seen.blocks.append((block, wrote[0] if isinstance(wrote, tuple) else wrote))

        blocks = {block_path(path) for path in attention}
        blocks = {path for path in blocks if path.rpartition(".")[2].isdigit()} or blocks  # drop modules off the stack
        stacks = {block.rpartition(".")[0] for block in blocks}
        for path, module in model.named_modules():
            holds = any(block == path or block.startswith(f"{path}.") for block in blocks)
            inside = any(path.startswith(f"{block}.") for block in blocks)
            if path and not holds and not inside:
                watch(module, seen.outside)
            if path.rpartition(".")[0] in stacks:  # a layer of the stack, with attention or without
                stack.callback(module.register_forward_hook(follow).remove)
        yield
