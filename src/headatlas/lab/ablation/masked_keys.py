"""Ablates edges of attention: each head's z without some of its keys, with everything before the head unchanged."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from headatlas.lab.ablation.replacement import Patch
from headatlas.lab.ablation.z_values import ZValues
from headatlas.lab.activations import edits
from headatlas.lab.activations.attention_edits import LayerEdit, PatternEdits
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.stimuli.prompts import Prompt


def without_keys(model: OpenModel, edges: Callable[[Prompt], Iterable[tuple[int, int]]]) -> Patch:
    """Replace each head's z by its value without the given (query, key) edges.

    The edges are masked before the softmax, as in `edits.knockout`; a query without visible keys gets zero. Each head's
    z is recomputed from the clean run. If heads in several layers are edited at once, the edit of an early head does
    not change what later heads would compute. The corrupted prompts are not run, so behaviours must be measured on the
    prompts alone.

    Args:
        model: to run.
        edges: prompt -> its (query, key) edges, at least one.
    """

    def patch(batch: Sequence[Prompt]) -> ZValues:
        each = [list(edges(prompt)) for prompt in batch]
        most = max(map(len, each))
        padded = torch.tensor([[*pairs, *pairs[:1] * (most - len(pairs))] for pairs in each])  # [batch edge 2]
        return _without(model, stack_tokens([prompt.tokens for prompt in batch]), padded)

    return patch


def _without(model: OpenModel, tokens: Tensor, hidden: Tensor) -> ZValues:
    """z of every head without the masked edges [batch edge 2]: per layer [batch query head d_head]."""
    edit = edits.knockout(model.anatomy.all_heads, hidden)
    found: dict[int, Tensor] = {}

    def hook(layer: int) -> AttentionHook:
        hide = PatternEdits((LayerEdit(edit, layer, model.anatomy.heads_in(layer), lambda: None),))

        def look(call: AttentionCall, z: Tensor) -> None:
            plain = z if call.attended is None else call.attended
            hidden, scale = hide.attend(call, plain), gate(call, z)
            if scale is not None:  # unchanged entries keep their exact z
                hidden = torch.where(hidden == plain, z, (hidden.float() * scale).to(z))
            found[layer] = hidden.detach().float().cpu()

        return look

    run_layers(model, tokens, hook)
    return ZValues(found)
