"""Finds gates and norms between attention output and output projection, numerically and without module names.

z is the input of the output projection. In most models z is the attention output. Some multiply it by a gate first
(Qwen3-Next), others normalise it (BitNet). To tell which, we replace the attention output, keep every other input of
the module, and compare what the projection reads.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.qkv_layout import is_linear
from headatlas.lab.anatomy.trial_pass import Step, TrialPass, gap, precision
from headatlas.lab.hooks.attention_interface import (
    AttentionCall,
    Between,
    attention_hooks,
    projection_reader,
    read_z_at,
)

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@torch.no_grad()
def settle(model: nn.Module, seen: TrialPass) -> bool:
    """Register where z is read, for attention modules whose output projection does not read the attention output.

    Args:
        model: the model of the trial pass.
        seen: the trial pass.

    Returns:
        Whether any were registered; the trial pass must then be repeated.
    """
    behind = {
        module: calls[0]
        for module, calls in seen.calls.items()
        if len(calls) == 1 and not _reads(seen.inside[module], calls[0][1])
    }
    if not behind:
        return False
    found = False
    for module, inputs in _inputs(model, behind, seen.tokens).items():
        if (reader := _find(module, inputs, seen.inside[module], behind[module][1])) is not None:
            read_z_at(module, *reader)
            found = True
    return found


def gate(call: AttentionCall, z: Tensor) -> Tensor | None:
    """The gate: z [batch query head d_head] divided by the attention output; None without a gate.

    Where the attention output is exactly 0, the gate is given as 0.

    Raises:
        HeadatlasError: if a norm, not a gate, stands between the two.
    """
    if call.attended is None:
        return None
    reader = projection_reader(call.module)
    if reader is None or reader.between != "gate":
        raise HeadatlasError(
            f"between attention and the output projection of {type(call.module).__name__} stands a norm, so a head's "
            "output cannot be split by the keys it attends to; intervene on its pattern instead"
        )
    attended = call.attended.float()
    return torch.where(attended == 0, 0.0, z.float() / torch.where(attended == 0, 1.0, attended))


def refuse(modules: Iterable[nn.Module], what: str) -> None:
    """Raise an error if heads also read the residual stream through a gate, which the method `what` does not follow."""
    if any(projection_reader(module) is not None for module in modules):
        raise HeadatlasError(
            f"{what} follows heads' inputs through queries, keys and values only, and heads of this model also read "
            "the residual stream through a gate on their output; use path_sweep, or sweep"
        )


def said(modules: Iterable[nn.Module]) -> list[str]:
    """Remarks of `headatlas doctor` on gates and norms."""
    kinds = [reader.between for module in modules if (reader := projection_reader(module)) is not None]
    words = {
        "gate": "attention is gated in {} layers: z is behind the gate, which OV matrices leave out",
        "norm": "a norm of each head stands before the output projection in {} layers: z is behind it, and OV "
        "matrices leave it out",
        "mixed": "a norm over all heads stands before the output projection in {} layers: z is behind it, so what a "
        "head attends to scales the z of others too; OV matrices leave it out",
    }
    return [text.format(kinds.count(kind)) for kind, text in words.items() if kind in kinds]


def _reads(steps: list[Step], z: Tensor) -> bool:
    flat = z.flatten(2)
    return any(is_linear(each) and each.read.shape == flat.shape and torch.equal(each.read, flat) for each in steps)


def _inputs(model: nn.Module, modules: Iterable[nn.Module], tokens: Tensor) -> dict[nn.Module, Inputs]:
    """The inputs of the given modules in a forward pass over the prompts."""
    found: dict[nn.Module, Inputs] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[module] = args, kwargs

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        model(tokens, use_cache=False)
    return found


def _find(module: nn.Module, inputs: Inputs, steps: list[Step], z: Tensor) -> tuple[nn.Module, Between] | None:
    """The linear map whose input depends on z [batch position head d_head], and what stands between."""
    drawn = torch.Generator().manual_seed(0)
    factors = (torch.rand(z.shape, generator=drawn) + 0.5).to(z)
    others = torch.ones_like(z)
    others[:, :, ::2] = factors[:, :, ::2]  # every second head gets another attention output
    heads = torch.arange(z.shape[2], device=z.device) % 2 == 0
    scaled, some = (_replay(module, inputs, z * each) for each in (factors, others))
    tolerance = precision(z.dtype)
    best: tuple[nn.Module, Between] | None = None
    for step in steps:
        if not is_linear(step) or step.read.numel() != z.numel() or step.module not in scaled:
            continue
        before, after, partly = (each.reshape(z.shape) for each in (step.read, scaled[step.module], some[step.module]))
        if torch.equal(before, after):
            continue  # this map does not depend on the attention output
        if gap(after, before * factors) <= tolerance:
            return step.module, "gate"
        alone = z.shape[2] == 1 or gap(partly[:, :, ~heads], before[:, :, ~heads]) <= tolerance
        best = step.module, "norm" if alone else "mixed"
    return best


def _replay(module: nn.Module, inputs: Inputs, attended: Tensor) -> dict[nn.Module, Tensor]:
    """Inputs of an attention module's linear maps when the attention output is replaced."""
    read: dict[nn.Module, Tensor] = {}

    def give(call: AttentionCall, z: Tensor) -> Tensor:
        return attended

    with _reading(module, read), attention_hooks({module: give}):
        module(*inputs[0], **inputs[1])
    return read


@contextmanager
def _reading(module: nn.Module, read: dict[nn.Module, Tensor]) -> Iterator[None]:
    def note(child: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            read[child] = args[0]

    with ExitStack() as stack:
        for child in module.modules():
            if child is not module:
                stack.callback(child.register_forward_pre_hook(note).remove)
        yield
