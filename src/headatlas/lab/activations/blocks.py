"""Which modules of a block read from the residual stream for attention, and which write to it, found by numbers."""

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
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.forward import FIRST, forward


@dataclass(frozen=True)
class Block:
    """The modules of one block around its attention, whose outputs are added to the stream, and nothing else is.

    Attributes:
        before: the norm between the stream and attention, or None where attention reads the stream itself (OLMo 2).
        reads_stream: whether attention reads that; False where something else stands between, and `before` is None.
        norm: what the attention's output goes through first (Gemma 2, OLMo 2), or None where it is added as it is.
        mlp: what writes the MLP's part: the MLP itself, its last linear map, or a norm after it.
    """

    before: nn.Module | None
    reads_stream: bool
    norm: nn.Module | None
    mlp: nn.Module


@dataclass
class _Passed:
    """What passed one block, each [batch position d_model]: the stream before it, what attention read, and the rest."""

    stream: list[Tensor] = field(default_factory=list)
    read: list[Tensor] = field(default_factory=list)
    attn_out: list[Tensor] = field(default_factory=list)
    left: list[Tensor] = field(default_factory=list)
    children: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)  # what each read and wrote


_known: WeakKeyDictionary[nn.Module, dict[int, Block]] = WeakKeyDictionary()


def find_blocks(model: OpenModel, tokens: Tensor) -> dict[int, Block]:
    """The writers of each layer with attention, found the first time in one pass over the prompts [batch position].

    Not over prompts of our own: edits may be in force that fit only these.

    Raises:
        HeadatlasError: where what a block adds is not what attention writes plus what one other module writes.
    """
    if model.model not in _known:
        try:
            found = _find(model, tokens, lambda block: block.children())
        except HeadatlasError:  # where an MLP adds the stream itself (BLOOM, MPT), its last map writes its part
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
    """Keep what a module reads and writes, where it could stand between the stream and a block's parts."""
    size = torch.Size(shape).numel()

    def watch(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        wrote = states_of(output)
        if isinstance(wrote, Tensor) and wrote.numel() == size:
            read = args[0] if args and isinstance(args[0], Tensor) and args[0].numel() == size else wrote
            wrote = wrote.reshape(shape).clone()  # Falcon adds to it where it lies
            found.children.setdefault(module, []).append((read.reshape(shape), wrote))

    stack.callback(child.register_forward_hook(watch).remove)


def _of_block(model: OpenModel, layer: int, found: _Passed) -> Block:
    """The pair of writers that accounts best for what the block added."""
    (stream,), (left,), (states,) = found.stream, found.left, found.read
    attn_out = found.attn_out[0].reshape(stream.shape)
    once = {module: each[0] for module, each in found.children.items() if len(each) == 1}  # Phi has one dropout for two
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
            f"{model.name}: what layer {layer} adds to the residual stream is not its attention plus its MLP, so it "
            "cannot be taken apart; headatlas can measure and edit this model's heads, but not attribute its logits"
        )
    return best


def _leads(read: Tensor, wrote: Tensor, one: Tensor, other: Tensor | None) -> bool:
    """Whether a module that read and wrote these leads from one state to the other, or to any other."""
    if not torch.equal(read, one):
        return False
    return not torch.equal(wrote, one) if other is None else torch.equal(wrote, other)
