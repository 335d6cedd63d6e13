"""Scores heads by how much they prefer the previous position for any tokens, from learned or rotary positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.recording import record
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.forward import forward
from headatlas.lab.weights.first_mlp import block_inputs
from headatlas.lab.weights.ov_qk import drawn_tokens


@dataclass(frozen=True)
class PreviousToken:
    """How much queries prefer the key one position back, averaged over content.

    NaN for heads to which all keys look alike, as in layers without position encoding.

    Attributes:
        share: [layer head], share of positions whose best key is the previous one. A rotary head prefers one distance
            at every position, if only slightly, so even unrelated heads can reach 0 or 1.
        weight: [layer head], mean attention weight on the previous position, which does not have that flaw.
        chance: mean weight under uniform attention, for both.
    """

    share: Tensor
    weight: Tensor
    chance: float


@torch.no_grad()
def previous_token_scores(model: OpenModel, tokens: Sequence[int] | None = None, length: int = 64) -> PreviousToken:
    """Measure how much every head's queries and keys prefer the previous position.

    Each layer reads the input of the first block: the token embedding, plus a learned position embedding if there is
    one. Queries and keys, after any rotary encoding, are averaged over tokens at each position, so scores depend on
    positions only. Sinks and sliding windows are ignored.

    Args:
        model: whose weights.
        tokens: contents to average over; by default 64 drawn from the vocabulary.
        length: number of positions; the first one has no predecessor.

    Raises:
        HeadatlasError: if all keys look alike to every head.
    """
    length = min(length, model.context or length)
    if length < 3:
        raise ValueError(f"{length} positions are too few to tell the previous one from the others; give at least 3")
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
    shares, weights = dict[int, Tensor](), dict[int, Tensor]()
    for layer, scores in _mean_scores(model, drawn_tokens(model, tokens, 64), length).items():  # [head query key]
        spread = (scores - scores[:, :, :1]).masked_fill(ahead, 0.0).abs().amax((1, 2))
        alike = spread <= 1e-6 * scores.abs().amax((1, 2))
        scores = scores.masked_fill(ahead, float("-inf"))
        best = scores[:, 1:].argmax(-1) == torch.arange(length - 1)
        shares[layer] = best.double().mean(-1).masked_fill(alike, float("nan"))
        back = scores.softmax(-1).diagonal(-1, 1, 2).mean(-1)
        weights[layer] = back.masked_fill(alike, float("nan"))
    share, weight = model.anatomy.stack(shares, 0), model.anatomy.stack(weights, 0)
    if share.isnan().all():
        raise HeadatlasError(
            f"{model.name} has no position encoding that its queries and keys reflect; measure attention on prompts"
        )
    return PreviousToken(share, weight, (1 / torch.arange(2, length + 1)).mean().item())


def _mean_scores(model: OpenModel, tokens: Sequence[int], length: int) -> dict[int, Tensor]:
    """Per layer, scores of mean query and mean key over prompts that repeat one token: [head query key]."""
    anatomy = model.anatomy
    totals: dict[int, tuple[Tensor, Tensor, AttentionCall]] = {}

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            key = call.key.repeat_interleave(call.query.shape[1] // call.key.shape[1], 1)
            query, key = (each.double().sum(0).cpu() / len(tokens) for each in (call.query, key))
            before = totals.get(layer, (0.0, 0.0))
            totals[layer] = (before[0] + query, before[1] + key, call)

        return look

    hooks: dict[nn.Module, AttentionHook] = {module: hook(layer) for layer, module in anatomy.attention.items()}
    for part in torch.split(torch.tensor(tokens), 16):
        prompts = part[:, None].expand(-1, length)
        entering = record(model, prompts, ["resid"], layers=[0])["resid", 0]
        with block_inputs(model, entering, range(anatomy.layers)):
            forward(model, prompts, hooks, torch.tensor([0]))
    found = {}
    for layer, (query, key, call) in totals.items():  # [head position d_head]
        scores = query @ key.mT * call.scaling
        found[layer] = scores if call.softcap is None else torch.tanh(scores / call.softcap) * call.softcap
    return found
