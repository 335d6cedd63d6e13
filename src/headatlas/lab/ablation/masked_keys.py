"""What each head would write if it could not see some of its keys: an ablation of what a head looks at."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from headatlas.lab.ablation.replacement import Patch
from headatlas.lab.ablation.sources import Reference
from headatlas.lab.activations import edits
from headatlas.lab.activations.attention_edits import LayerEdit, PatternEdits
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.stimuli.prompts import Prompt


def without_keys(model: OpenModel, edges: Callable[[Prompt], Iterable[tuple[int, int]]]) -> Patch:
    """Put in place of each head's z what it would be if the head could not use some (query, key) edges.

    The weight is shared among the keys that are left, as `edits.knockout` does; a query that may look nowhere gets
    zero. Each head's z is computed by itself in an otherwise untouched run of the prompt: where heads of several layers
    are edited together, the later ones do not hear of the earlier. Controls are not run: this is for behaviours that
    are read on the prompts alone.

    Args:
        model: to run.
        edges: of a prompt, at least one.
    """

    def patch(batch: Sequence[Prompt]) -> Reference:
        each = [list(edges(prompt)) for prompt in batch]
        most = max(map(len, each))
        padded = torch.tensor([[*pairs, *pairs[:1] * (most - len(pairs))] for pairs in each])  # [batch edge 2]
        return _without(model, stack_tokens([prompt.tokens for prompt in batch]), padded)

    return patch


def _without(model: OpenModel, tokens: Tensor, hidden: Tensor) -> Reference:
    """z of every head without the hidden edges [batch edge 2]: per layer [batch query head d_head]."""
    edit = edits.knockout(model.anatomy.all_heads, hidden)
    found: dict[int, Tensor] = {}

    def tap(layer: int) -> AttentionHook:
        hide = PatternEdits((LayerEdit(edit, layer, model.anatomy.heads_in(layer), lambda: None),))

        def look(call: AttentionCall, z: Tensor) -> None:
            plain = z if call.attended is None else call.attended
            hidden, scale = hide.attend(call, plain), gate(call, z)
            if scale is not None:  # what is not touched stays z itself
                hidden = torch.where(hidden == plain, z, (hidden.float() * scale).to(z))
            found[layer] = hidden.detach().float().cpu()

        return look

    run_layers(model, tokens, tap)
    return Reference(found)
