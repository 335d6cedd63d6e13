"""Checks a model on realistic prompts: they begin with BOS, are as long as stimuli, and exceed any sliding window.

Some failures do not show on a few random tokens: float16 overflows in the large activations of the first token, and
sliding windows hide nothing in shorter prompts. No full attention pattern is stored.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from headatlas.lab.activations.interventions import on_projection
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.anatomy.trial_pass import gap
from headatlas.lab.hooks import row_weights
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel

LENGTH = 128  # tokens, about that of the longest ordinary stimuli
_BEYOND = 48  # tokens beyond a sliding window
_SHORT = 24  # tokens: enough to show overflow after BOS; float16 on a CPU would take minutes on long prompts
_LONGEST = 2048  # tokens; larger windows are not exceeded
_ROWS = 24  # queries whose attention weights are recomputed


@dataclass
class Inspection:
    """Results of the pass. Gaps are relative to the largest expected number.

    Attributes:
        tokens: [2 position]; the second prompt differs from the first in its last token.
        said: a description of the prompts, worded for a sentence.
        broken: where the first NaN or infinite number appeared; empty if none did.
        identity: gap between the sum over heads of z W_O (plus bias) and the attention output.
        recomputed: gap between z from recomputed attention weights and the model's.
        causality: how much changing the last token changes earlier logits.
    """

    tokens: Tensor
    said: str
    broken: str = ""
    identity: float = 0.0
    recomputed: float = 0.0
    causality: float = 0.0


@torch.no_grad()
def inspect_prompts(model: OpenModel) -> Inspection:
    """Run two short prompts through the checks and, if no number is NaN or infinite, two long ones."""
    found = _inspect(model, *_prompts(model, _SHORT))
    return found if found.broken else _inspect(model, *_prompts(model))


def _inspect(model: OpenModel, tokens: Tensor, said: str) -> Inspection:
    found, anatomy = Inspection(tokens, said), model.anatomy
    rows, left = _rows(model, tokens.shape[1]), dict[int, Tensor]()  # z by layer, until the output projection runs
    hooks: dict[nn.Module, AttentionHook] = {
        m: _look(found, layer, rows, left) for layer, m in anatomy.attention.items()
    }
    with ExitStack() as stack:
        for layer in anatomy.attention:
            stack.callback(on_projection(anatomy, layer, _adds_up(found, anatomy, layer, left)).remove)
        stack.enter_context(attention_hooks(hooks))
        logits = model.model(tokens, use_cache=False).logits
    if not torch.isfinite(logits).all():
        found.broken = found.broken or "the logits"
    found.causality = gap(logits[1, :-1], logits[0, :-1])
    return found


def _prompts(model: OpenModel, length: int | None = None) -> tuple[Tensor, str]:
    """BOS and random ordinary tokens, [2 position], and a description; without `length`, long enough for any window."""
    window = max((size for size in windows(model).values() if size + _BEYOND <= _LONGEST), default=0)
    length = length or max(LENGTH, window + _BEYOND if window else 0)
    length = max(2, min(length, model.context or length))
    ordinary = model.vocabulary.ordinary
    bos = tuple(token for token in model.vocabulary.bos if token < model.vocabulary.size)  # others fail another check
    drawn = Random(0).choices(ordinary, k=length - len(bos))
    first = torch.tensor([*bos, *drawn])
    second = first.clone()
    second[-1] = next(token for token in ordinary if token != drawn[-1])
    begin = "that begin with BOS" if bos else "without BOS"
    past = f", past the window of {window}" if window and length > window else ""
    return torch.stack([first, second]).to(model.device), f"prompts of {length} tokens {begin}{past}"


def windows(model: OpenModel) -> dict[int, int]:
    """The sliding window, in tokens, of each layer that has one, according to the configuration."""
    config = model.model.config.get_text_config()
    if kinds := getattr(config, "attention_layers", None):  # GPT-Neo
        return {layer: config.window_size for layer in model.anatomy.attention if kinds[layer] == "local"}
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or getattr(config, "use_sliding_window", True) is False:
        return {}
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * model.anatomy.layers
    return {layer: window for layer in model.anatomy.attention if "sliding" in kinds[layer]}


def _rows(model: OpenModel, length: int) -> Tensor:
    """Query positions to check: first, last, around the edges of windows, and some between."""
    edges = [size + shift for size in set(windows(model).values()) for shift in (-1, 0, 1)]
    even = torch.linspace(0, length - 1, min(length, _ROWS)).round().long().tolist()
    return torch.tensor(sorted({place for place in (*edges, *even) if 0 <= place < length}))


def _look(found: Inspection, layer: int, rows: Tensor, left: dict[int, Tensor]) -> AttentionHook:
    def look(call: AttentionCall, z: Tensor) -> None:
        left[layer] = z
        if not torch.isfinite(z).all():
            found.broken = found.broken or f"z of layer {layer}"
        else:
            found.recomputed = max(found.recomputed, recomputed_gap(call, z, rows))

    return look


def _adds_up(
    found: Inspection, anatomy: Anatomy, layer: int, left: dict[int, Tensor]
) -> Callable[[Tensor, Tensor], None]:
    def look(_: Tensor, out: Tensor) -> None:
        w_o, bias = anatomy.w_o(layer).float(), anatomy.b_o(layer)
        total = torch.einsum("bqhd,hdm->bqm", left.pop(layer).float(), w_o)
        found.identity = max(found.identity, gap(total if bias is None else total + bias.float(), out))

    return look


def recomputed_gap(call: AttentionCall, z: Tensor, rows: Tensor) -> float:
    """Gap between attention outputs from recomputed weights and the model's, relative to the largest.

    Args:
        call: of one layer.
        z: [batch query head d_head]; it is the attention output unless `call.attended` is set (gate or norm).
        rows: [row], query positions to compare.
    """
    rows, given = rows.to(z.device), z if call.attended is None else call.attended
    pattern = row_weights.attention_rows(call, rows.expand(z.shape[0], -1))  # [batch head row key]
    value = call.value.float().repeat_interleave(z.shape[2] // call.value.shape[1], dim=1)
    return gap((pattern @ value).transpose(1, 2), given[:, rows])
