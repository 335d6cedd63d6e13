"""Arbitrary scores of the attention patterns of short prompts, of any lengths."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.row_weights import attention_rows
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.stimuli.prompts import Prompt


def pattern_scores(
    model: OpenModel,
    prompts: Sequence[Prompt],
    measure: Callable[[Prompt, Array], Array],
    corrupted: bool = False,
) -> Array:
    """Apply `measure` to each prompt's whole attention pattern; patterns must fit in memory.

    Args:
        model: to run.
        prompts: of any lengths, at least one.
        measure: (prompt, pattern [layer head query key]) -> an array, of the same shape for all prompts. Patterns of
            heads that do not exist are NaN.
        corrupted: use the patterns of the corrupted prompts.

    Returns:
        [prompt ...], float64.
    """
    found: dict[int, Array] = {}
    for index, batch in batches(model, prompts, lambda prompt: 1):
        tokens = stack_tokens([prompt.corrupted if corrupted else prompt.tokens for prompt in batch])
        seen: dict[int, torch.Tensor] = {}

        def hook(layer: int, seen: dict[int, torch.Tensor] = seen) -> AttentionHook:
            def look(call: AttentionCall, z: torch.Tensor) -> None:
                queries = torch.arange(z.shape[1], device=z.device).expand(len(z), -1)
                seen[layer] = attention_rows(call, queries).cpu()  # [batch head query key]

            return look

        run_layers(model, tokens, hook)
        patterns = model.anatomy.stack(seen, 1).double().numpy()
        found |= {number: measure(*each) for number, *each in zip(index, batch, patterns, strict=True)}
    return np.stack([found[number] for number in range(len(prompts))]).astype(float)
