"""Which heads prefer the position before, whatever the tokens: read off weights, with learned or rotary positions."""

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
    """How much queries prefer the key one position back, content averaged out.

    NaN for heads to which all keys look alike, as in layers without position encoding.

    Attributes:
        share: [layer head], share of positions whose best key is the one before. A rotary head prefers the same
            distance everywhere, however slightly, so that many a head without the function reaches 0 or 1.
        weight: [layer head], mean attention weight on the one before, which does not have that fault.
        chance: of both, for even attention.
    """

    share: Tensor
    weight: Tensor
    chance: float


@torch.no_grad()
def previous_token_scores(model: OpenModel, tokens: Sequence[int] | None = None, length: int = 64) -> PreviousToken:
    """How much the queries and keys of every head prefer the previous position.

    Each layer reads what enters the first block: a token's embedding, and its position's where the model has learned
    ones. Queries and keys, after rotary encoding where there is one, are averaged over tokens at each position, so
    that what is left of a score depends on the two positions alone. Sinks and sliding windows are left out.

    Args:
        model: whose weights.
        tokens: contents to average over; by default 64 drawn from the vocabulary.
        length: how many positions, the first of which has none before it.

    Raises:
        HeadatlasError: where all keys look alike to every head.
    """
    length = min(length, model.context or length)
    if length < 3:
        raise ValueError(f"{length} positions do not tell the previous from the others; give at least 3")
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
            f"{model.name} has no positions that its queries and keys could tell apart; measure attention on prompts"
        )
    return PreviousToken(share, weight, (1 / torch.arange(2, length + 1)).mean().item())


def _mean_scores(model: OpenModel, tokens: Sequence[int], length: int) -> dict[int, Tensor]:
    """Per layer, scores of the mean query and the mean key over prompts that repeat one token: [head query key]."""
    anatomy = model.anatomy
    totals: dict[int, tuple[Tensor, Tensor, AttentionCall]] = {}

    def tap(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            key = call.key.repeat_interleave(call.query.shape[1] // call.key.shape[1], 1)
            query, key = (each.double().sum(0).cpu() / len(tokens) for each in (call.query, key))
            before = totals.get(layer, (0.0, 0.0))
            totals[layer] = (before[0] + query, before[1] + key, call)

        return look

    taps: dict[nn.Module, AttentionHook] = {module: tap(layer) for layer, module in anatomy.attention.items()}
    for part in torch.split(torch.tensor(tokens), 16):
        prompts = part[:, None].expand(-1, length)
        entering = record(model, prompts, ["resid"], layers=[0])["resid", 0]
        with block_inputs(model, entering, range(anatomy.layers)):
            forward(model, prompts, taps, torch.tensor([0]))
    found = {}
    for layer, (query, key, call) in totals.items():  # [head position d_head]
        scores = query @ key.mT * call.scaling
        found[layer] = scores if call.softcap is None else torch.tanh(scores / call.softcap) * call.softcap
    return found
