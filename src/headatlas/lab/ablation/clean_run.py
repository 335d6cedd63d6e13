"""Runs clean prompts and caches what reruns from the middle of the model need."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.module_hooks import on_input, on_output, states_of, with_states
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.forward import forward


@dataclass(frozen=True)
class BlockPass:
    """Cache of one layer with attention in a clean run.

    Attributes:
        stream: residual stream before the block, [prompt position d_model].
        z: [prompt position head d_head].
        plain: whether the attention module's output is its output projection's output, plus at most one argument.
        beside: further elements of the module's output: its parameters, and None for others; None without any.
        added: index of the argument that the module adds to the projection's output (BLOOM: the stream), or None.
        attended: keys, values [prompt kv_head position d_head] and mask, if reruns skip positions.
    """

    stream: Tensor
    z: Tensor
    plain: bool
    beside: tuple[nn.Parameter | None, ...] | None
    added: int | None
    attended: tuple[Tensor, Tensor, Tensor | None] | None

    def attending(self, attn_out: Tensor) -> Callable[..., Any]:
        """A replacement for the attention module's forward method that returns `attn_out` in the module's format."""

        def give(*args: Any, **_: Any) -> Any:
            states = attn_out if self.added is None else args[self.added] + attn_out
            return states if self.beside is None else (states, *self.beside)

        return give

    def first(self, count: int) -> "BlockPass":
        """The cache of the first prompts alone."""
        kept = self.attended
        if kept is not None:
            key, value, mask = kept
            kept = key[:count], value[:count], mask if mask is None or len(mask) == 1 else mask[:count]
        return replace(self, stream=self.stream[:count], z=self.z[:count], attended=kept)


@dataclass(frozen=True)
class CleanRun:
    """Cache of a clean run, for reruns.

    Attributes:
        tokens: [prompt position].
        keep: positions whose logits are kept, ascending.
        start: the first position that reruns compute.
        logits: [prompt kept vocabulary].
        layers: cache of each layer with attention, by layer number.
        outputs: output of each block, with attention or without.
        norm: norm before the last block's attention; None if unknown, or if anything else in the model moves
            information between positions.
        origin: the first position that `layers` and `outputs` hold (keys and values are held of all).
        padding: [prompt], number of padded positions before each prompt, if they differ in length; see `mixed_lengths`.
    """

    tokens: Tensor
    keep: Tensor
    start: int
    logits: Tensor
    layers: Mapping[int, BlockPass]
    outputs: tuple[Any, ...]
    norm: nn.Module | None
    origin: int = 0
    padding: Tensor | None = None

    def first(self, count: int) -> "CleanRun":
        """The cache of the first prompts alone."""
        return replace(
            self,
            tokens=self.tokens[:count],
            logits=self.logits[:count],
            layers={layer: each.first(count) for layer, each in self.layers.items()},
            outputs=tuple(with_states(each, states_of(each)[:count]) for each in self.outputs),
        )


def run_clean(model: OpenModel, tokens: Tensor, keep: Tensor, start: int = 0) -> CleanRun:
    """Run prompts [prompt position] once and cache what reruns from position `start` on need."""
    anatomy, norm = model.anatomy, _last_norm(model, tokens)
    seen: dict[int, dict[str, Any]] = {layer: {} for layer in anatomy.attention}
    outputs: dict[int, Any] = {}
    hooks: dict[nn.Module, AttentionHook] = {}
    with ExitStack() as stack:
        for number, block in enumerate(anatomy.blocks):
            stack.callback(block.register_forward_hook(partial(_note_output, outputs, number)).remove)
        for layer, found in seen.items():
            hooks[anatomy.attention[layer]] = partial(_note_heads, found, start)
            stack.callback(anatomy.attention[layer].register_forward_hook(partial(_note_attention, found)).remove)
            stack.callback(on_output(anatomy.projections[layer], partial(found.__setitem__, "attn_out")).remove)
            stack.callback(on_input(anatomy.blocks[layer], partial(found.__setitem__, "stream")).remove)
        logits = forward(model, tokens, hooks, keep)
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
    """The norm before the last block's attention, or None if positions of that block may not be dropped.

    They may be dropped only if attention alone moves information between positions; in a hybrid, a state-space,
    convolution or recurrent layer may do so too.
    """
    last = model.anatomy.layers - 1
    if model.anatomy.other_mixers or last not in model.anatomy.attention:
        return None
    try:
        found = find_blocks(model, tokens[:2])[last]
    except HeadatlasError:
        return None
    return (found.before or nn.Identity()) if found.reads_stream else None
