"""What a clean run leaves for later ones that start in the middle of the model."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.module_hooks import on_input, on_output, states_of
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.forward import forward


@dataclass(frozen=True)
class BlockPass:
    """What passed one layer with attention in a clean run.

    Attributes:
        stream: what entered the block, [prompt position d_model].
        z: [prompt position head d_head].
        plain: whether its attention module gave what its output projection wrote, and nothing of its own beside it.
        beside: what that module gave beside it: its parameters, and None for all else; None where it comes alone.
        added: which of the module's arguments it adds to what the projection wrote (BLOOM: the stream), if any.
        attended: keys, values [prompt kv_head position d_head] and mask, where reruns skip positions.
    """

    stream: Tensor
    z: Tensor
    plain: bool
    beside: tuple[nn.Parameter | None, ...] | None
    added: int | None
    attended: tuple[Tensor, Tensor, Tensor | None] | None

    def attending(self, attn_out: Tensor) -> Callable[..., Any]:
        """What the attention module does, of whatever it is called with, where this is what its projection writes."""

        def give(*args: Any, **_: Any) -> Any:
            states = attn_out if self.added is None else args[self.added] + attn_out
            return states if self.beside is None else (states, *self.beside)

        return give


@dataclass(frozen=True)
class CleanRun:
    """What a clean run leaves for reruns.

    Attributes:
        tokens: [prompt position].
        keep: the positions whose logits are wanted, ascending.
        start: the first position that reruns compute.
        logits: [prompt kept vocabulary].
        layers: what passed each that has attention, by its number.
        outputs: what each block gave, with attention or without.
        norm: what the last block's attention reads the stream through; None where that is not known, or where that
            block is not the only thing in the model that looks back.
    """

    tokens: Tensor
    keep: Tensor
    start: int
    logits: Tensor
    layers: Mapping[int, BlockPass]
    outputs: tuple[Any, ...]
    norm: nn.Module | None


def run_clean(model: OpenModel, tokens: Tensor, keep: Tensor, start: int = 0) -> CleanRun:
    """Run prompts [prompt position] once, keeping what reruns from `start` onwards need."""
    anatomy, norm = model.anatomy, _last_norm(model, tokens)
    seen: dict[int, dict[str, Any]] = {layer: {} for layer in anatomy.attention}
    outputs: dict[int, Any] = {}
    taps: dict[nn.Module, AttentionHook] = {}
    with ExitStack() as stack:
        for number, block in enumerate(anatomy.blocks):
            stack.callback(block.register_forward_hook(partial(_note_output, outputs, number)).remove)
        for layer, found in seen.items():
            taps[anatomy.attention[layer]] = partial(_note_heads, found, start)
            stack.callback(anatomy.attention[layer].register_forward_hook(partial(_note_attention, found)).remove)
            stack.callback(on_output(anatomy.projections[layer], partial(found.__setitem__, "attn_out")).remove)
            stack.callback(on_input(anatomy.blocks[layer], partial(found.__setitem__, "stream")).remove)
        logits = forward(model, tokens, taps, keep)
    layers = {layer: BlockPass(**found) for layer, found in seen.items()}
    return CleanRun(tokens, keep, start, logits, layers, tuple(outputs[layer] for layer in range(anatomy.layers)), norm)


def _note_heads(found: dict[str, Any], start: int, call: AttentionCall, z: Tensor) -> None:
    found["z"], found["attended"] = z, (call.key, call.value, call.mask) if start else None


def _note_attention(found: dict[str, Any], _: nn.Module, args: Any, output: Any) -> None:
    states, attn_out = states_of(output), found.pop("attn_out")
    sums = (
        number
        for number, each in enumerate(args)
        if isinstance(each, Tensor) and each.shape == attn_out.shape and torch.equal(each + attn_out, states)
    )
    alone = torch.equal(states, attn_out)
    found["added"] = None if alone else next(sums, None)
    found["plain"] = alone or found["added"] is not None
    others = output[1:] if isinstance(output, tuple) else None
    found["beside"] = others and tuple(each if isinstance(each, nn.Parameter) else None for each in others)


def _note_output(outputs: dict[int, Any], number: int, _: nn.Module, args: Any, output: Any) -> None:
    outputs[number] = output


def _last_norm(model: OpenModel, tokens: Tensor) -> nn.Module | None:
    """What the last block's attention reads the stream through; None where positions of that block may not be dropped.

    They may where its attention alone looks back: in a hybrid, a state-space, convolution or recurrent layer may do so
    beside or after it.
    """
    last = model.anatomy.layers - 1
    if model.anatomy.other_mixers or last not in model.anatomy.attention:
        return None
    try:
        found = find_blocks(model, tokens[:2])[last]
    except HeadatlasError:
        return None
    return (found.before or nn.Identity()) if found.reads_stream else None
