"""Gives heads other attention weights: each head's z under them, with everything before the head unchanged."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from headatlas.lab.ablation.replacement import Patch
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.activations.recording import record
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.row_weights import attention_rows
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.stimuli.prompts import Prompt

Weights = Callable[[int, AttentionCall], Tensor]  # layer, its call -> [batch head query key]


def with_corrupted_patterns(model: OpenModel) -> Patch:
    """Replace each head's z by its value under the attention weights that it has in the corrupted prompt.

    The values are those of the prompt itself. This is the intervention of the indirect effect of attention
    (vig2020investigating). If heads in several layers are edited at once, the edit of an early head does not change
    what later heads would compute. Behaviours must be measured on the prompts alone.

    Args:
        model: to run.
    """

    return lambda batch: _under(
        model, [prompt.tokens for prompt in batch], _recorded(model, [prompt.corrupted for prompt in batch])
    )


def attending_as(model: OpenModel, other: OpenModel) -> Patch:
    """Replace each head's z by what it would be with the attention weights of another model, such as a fine-tuned one.

    Values are the model's own, of the clean run, so that only where heads look is exchanged. As with
    `with_corrupted_patterns`, later heads compute what they would without the edits of earlier ones, and behaviours
    must be measured on the prompts alone.

    Args:
        model: to run.
        other: a model with the same heads and the same tokenizer.
    """

    def patch(batch: Sequence[Prompt]) -> ZValues:
        tokens = [prompt.tokens for prompt in batch]
        return _under(model, tokens, _recorded(other, tokens))

    return patch


def with_uniform_patterns(model: OpenModel) -> Patch:
    """Replace each head's z by the mean of the values that each query can see.

    The limit of scaling the queries down, called undifferentiated attention (zhou2025role). Biases of position and
    attention sinks are left out, so that the weights of a query are equal and sum to 1. As with
    `with_corrupted_patterns`, later heads compute what they would without the edits of earlier ones, and behaviours
    must be measured on the prompts alone.

    Args:
        model: to run.
    """

    def weights(layer: int, call: AttentionCall) -> Tensor:
        visible = call.mask
        if visible is not None and visible.dtype != torch.bool:
            visible = visible > torch.finfo(visible.dtype).min / 2
        return _weights(replace(call, query=torch.zeros_like(call.query), mask=visible, softcap=None, sinks=None))

    return lambda batch: _under(model, [prompt.tokens for prompt in batch], weights)


def _recorded(model: OpenModel, tokens: Sequence[tuple[int, ...]]) -> Weights:
    """The weights that a model has on prompts of one length."""
    seen = record(model, tokens, ["pattern"])
    return lambda layer, _: seen["pattern", layer].float()


def _weights(call: AttentionCall) -> Tensor:
    """All attention weights of a call, [batch head query key]."""
    batch, _, length, _ = call.query.shape
    return attention_rows(call, torch.arange(length, device=call.query.device).expand(batch, -1))


def _under(model: OpenModel, tokens: Sequence[tuple[int, ...]], weights: Weights) -> ZValues:
    """z of every head under other weights, from the model's own run: per layer [batch query head d_head]."""
    found: dict[int, Tensor] = {}

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            shared = call.query.shape[1] // call.value.shape[1]  # query heads that read the same values
            value = call.value.float().repeat_interleave(shared, dim=1)  # [batch head key d_head]
            other = torch.einsum("bhqk,bhkd->bqhd", weights(layer, call), value)
            scale = gate(call, z)
            found[layer] = (other if scale is None else other * scale.float()).detach().cpu()

        return look

    run_layers(model, stack_tokens(tokens), hook)
    return ZValues(found)
