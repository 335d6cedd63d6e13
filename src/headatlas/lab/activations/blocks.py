"""Finds, numerically, which modules of a block read the residual stream for attention and which write to it."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import several_streams
from headatlas.lab.anatomy.trial_pass import precision
from headatlas.lab.hooks.module_hooks import on_input, on_output, states_of
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.forward import FIRST, forward


@dataclass(frozen=True)
class Block:
    """Modules around a block's attention. The block adds exactly the attention output and the MLP output to the stream.

    Attributes:
        before: norm between residual stream and attention, or None if attention reads the stream directly (OLMo 2).
        reads_stream: False if something other than a norm stands between them; `before` is then None.
        norm: norm applied to the attention output before it is added (Gemma 2, OLMo 2), or None.
        mlp: module whose output is the MLP's addition: the MLP, its last linear map, or a norm after it.
    """

    before: nn.Module | None
    reads_stream: bool
    norm: nn.Module | None
    mlp: nn.Module


@dataclass
class _Passed:
    """Activations recorded in one block, each [batch position d_model]."""

    stream: list[Tensor] = field(default_factory=list)
    read: list[Tensor] = field(default_factory=list)
    attn_out: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)
    children: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)  # input and output of each


_known: WeakKeyDictionary[nn.Module, dict[int, Block]] = WeakKeyDictionary()


def find_blocks(model: OpenModel, tokens: Tensor) -> dict[int, Block]:
    """Find the `Block` of each layer with attention, once per model, in one pass over `tokens` [batch position].

    It runs the caller's prompts because active edits may only fit those.

    Raises:
        HeadatlasError: if a block adds anything else than its attention output plus one other module's output.
    """
    if model.model not in _known:
        try:
            found = _find(model, tokens, lambda block: block.children())
        except HeadatlasError:  # if an MLP adds the stream itself (BLOOM, MPT), use the output of its last linear map
            found = _find(model, tokens, lambda block: (each for each in block.modules() if each is not block))
        _known[model.model] = found
    return _known[model.model]


def _find(model: OpenModel, tokens: Tensor, candidates: Callable[[nn.Module], Iterable[nn.Module]]) -> dict[int, Block]:
    anatomy = model.anatomy
    if not anatomy.one_stream:
        raise HeadatlasError(several_streams(anatomy))
    passed = {layer: _Passed() for layer in anatomy.attention}
    with ExitStack() as stack:
        for layer, found in passed.items():
            stack.callback(on_input(anatomy.blocks[layer], found.stream.append).remove)
            stack.callback(on_output(anatomy.blocks[layer], found.left.append).remove)
            stack.callback(on_input(anatomy.attention[layer], found.read.append).remove)
            stack.callback(on_output(anatomy.projections[layer], found.attn_out.append).remove)
            for child in candidates(anatomy.blocks[layer]):
                _watch(stack, child, found, (*tokens.shape, anatomy.d_model))
        forward(model, tokens, positions=FIRST)
    return {layer: _of_block(model, layer, found) for layer, found in passed.items()}


def _watch(stack: ExitStack, child: nn.Module, found: _Passed, shape: tuple[int, ...]) -> None:
    """Record a module's input and output, if their size allows it to be one of the block's parts."""
    size = torch.Size(shape).numel()

    def watch(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        wrote = states_of(output)
        if isinstance(wrote, Tensor) and wrote.numel() == size:
            read = args[0] if args and isinstance(args[0], Tensor) and args[0].numel() == size else wrote
            wrote = wrote.reshape(shape).clone()  # Falcon adds to it in place
            found.children.setdefault(module, []).append((read.reshape(shape), wrote))

    stack.callback(child.register_forward_hook(watch).remove)


def _of_block(model: OpenModel, layer: int, found: _Passed) -> Block:
    """The pair of modules whose outputs best explain what the block added."""
    (stream,), (left,), (states,) = found.stream, found.left, found.read
    attn_out = found.attn_out[0].reshape(stream.shape)
    once = {module: each[0] for module, each in found.children.items() if len(each) == 1}  # Phi shares one dropout
    before = next((m for m, (read, wrote) in once.items() if _leads(read, wrote, stream, states)), None)
    after = [m for m, (read, wrote) in once.items() if _leads(read, wrote, attn_out, None)]
    added = (left - stream).float()
    best, least = None, float("inf")
    for norm in (None, *after):
        rest = added - (attn_out if norm is None else once[norm][1]).float()
        for mlp, (_, wrote) in once.items():
            error = float((rest - wrote.float()).abs().max())
            if mlp is not norm and error < least:
                best, least = Block(before, before is not None or torch.equal(stream, states), norm, mlp), error
    rounding = torch.finfo(attn_out.dtype).eps * left.float().abs().max()
    if best is None or not least <= precision(attn_out.dtype) * added.abs().max() + 4 * rounding:
        raise HeadatlasError(
            f"{model.name}: what layer {layer} adds to the residual stream is not its attention output plus its MLP "
            "output; headatlas can measure and edit this model's heads, but not attribute its logits"
        )
    return best


def _leads(read: Tensor, wrote: Tensor, one: Tensor, other: Tensor | None) -> bool:
    """Whether a module with this input and output maps state `one` to `other`, or to any other state if None."""
    if not torch.equal(read, one):
        return False
    return not torch.equal(wrote, one) if other is None else torch.equal(wrote, other)
