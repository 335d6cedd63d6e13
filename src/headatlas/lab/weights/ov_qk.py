"""Scores of OV and QK circuits, computed without running prompts or forming a [d_model d_model] matrix per head.

Norms are applied exactly to single tokens, without their biases, and as folded matrices to head outputs (see
`norm_folding`). Anything else between heads, such as MLPs, is ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.weights.first_mlp import first_mlp
from headatlas.lab.weights.norm_folding import fold_norms
from headatlas.lab.weights.token_embedding import embed_tokens

States = Literal["embedding", "mlp0"]
_TOKENS = 128  # tokens whose logits are held at once


@dataclass(frozen=True)
class Copying:
    """How often a head that attends to a token ranks that token's own logit at the top, or at the bottom.

    Attributes:
        copying: [layer head], share of tokens whose own logit is among the k largest of the head's output.
        suppression: [layer head], share whose own logit is among the k smallest.
        chance: k / vocabulary.
    """

    copying: Tensor
    suppression: Tensor
    chance: float


@torch.no_grad()
def copying_scores(
    model: OpenModel, tokens: Sequence[int] | None = None, k: int = 5, states: States = "embedding"
) -> Copying:
    """Copying and suppression scores of every head, from the full OV circuit W_E W_V W_O W_U with norms.

    Source: wang2023interpretability, which also uses the first MLP's output in place of the embedding.

    Args:
        model: whose weights.
        tokens: token ids; by default 500 drawn from the vocabulary, or all if it has fewer.
        k: number of top (or bottom) ranks that count. Ties count against the token.
        states: the head's input: the token's 'embedding', or the first MLP's output on it ('mlp0', for models whose
            embeddings are tied).

    Raises:
        HeadatlasError: if weights, norms or unembedding are unconfirmed.
    """
    chosen, anatomy = drawn_tokens(model, tokens, 500), model.anatomy
    vocabulary = len(_embedding(model))
    if not 0 < k < vocabulary:
        raise ValueError(f"k is {k}; it must lie between 1 and the vocabulary of {vocabulary} tokens")
    circuits = _Circuits(model, _states(model, chosen, states))
    counts = torch.full((2, anatomy.layers, anatomy.heads), float("nan"), dtype=torch.float64)
    for layer, head in anatomy.all_heads:
        counts[:, layer, head] = 0.0
        for rows in torch.split(torch.arange(len(chosen)), _TOKENS):
            logits = circuits.logits(layer, head, rows)  # [token vocabulary]
            own = logits.gather(1, torch.tensor(chosen, device=logits.device)[rows.to(logits.device), None])
            counts[0, layer, head] += ((logits >= own).sum(1) <= k).sum().item()
            counts[1, layer, head] += ((logits <= own).sum(1) <= k).sum().item()
    copying, suppression = counts / len(chosen)
    return Copying(copying, suppression, k / vocabulary)


@torch.no_grad()
def ov_logits(model: OpenModel, tokens: Sequence[int], among: Sequence[int], states: States = "embedding") -> Tensor:
    """Logits of each head's full OV circuit W_E W_V W_O W_U, with norms, for single tokens.

    These are the logits of the head's output when it attends to the token alone, through the final norm and without
    biases. The final norm sets their scale, so only their order is meaningful.

    Args:
        model: whose weights.
        tokens: the attended tokens.
        among: the tokens whose logits are returned.
        states: as in `copying_scores`.

    Returns:
        [layer head token among], float32.

    Raises:
        HeadatlasError: if weights, norms or unembedding are unconfirmed, or a token is outside the vocabulary.
    """
    chosen, read = drawn_tokens(model, tokens, 0), drawn_tokens(model, among, 0)
    circuits, rows = _Circuits(model, _states(model, chosen, states), read), torch.arange(len(chosen))
    found: dict[int, list[Tensor]] = {layer: [] for layer in model.anatomy.attention}
    for layer, head in model.anatomy.all_heads:
        found[layer].append(circuits.logits(layer, head, rows))
    return model.anatomy.stack({layer: torch.stack(each) for layer, each in found.items()}, 0)


class _Circuits:
    """The OV circuits of all heads, from states [token d_model] to logits of all tokens, or of some."""

    def __init__(self, model: OpenModel, states: Tensor, among: Sequence[int] | None = None) -> None:
        self._model, self._folding, self._states = model, fold_norms(model), states
        self._among = None if among is None else torch.tensor(among)
        self._zero = self._unembed(torch.zeros(1, model.anatomy.d_model, device=states.device))  # bias of the norm

    def logits(self, layer: int, head: int, rows: Tensor) -> Tensor:
        """Logits for some of the states: [row token], float32."""
        ov, states = self._model.anatomy.ov(layer, head), self._folding.reads(layer, self._states[rows])
        return self._unembed(self._folding.written(layer, ov.apply(states))) - self._zero

    def _unembed(self, written: Tensor) -> Tensor:
        with only_logits_of(self._model, self._among):
            return self._model.anatomy.logits(written).float()


def drawn_tokens(model: OpenModel, tokens: Sequence[int] | None, count: int) -> list[int]:
    """The given tokens, or `count` ordinary ones drawn with a fixed seed; HeadatlasError for unknown tokens."""
    size = len(_embedding(model))
    if tokens is None:
        ordinary = model.vocabulary.ordinary
        order = torch.randperm(len(ordinary), generator=torch.Generator().manual_seed(0))
        return [ordinary[place] for place in sorted(order[:count].tolist())]
    if not tokens or min(tokens) < 0 or max(tokens) >= size:
        raise HeadatlasError(f"give at least one token, all between 0 and {size - 1}, the vocabulary of {model.name}")
    return list(tokens)


def _embedding(model: OpenModel) -> Tensor:
    weight: Tensor = model.anatomy.embedding.weight  # type: ignore[assignment]
    if weight.shape[1] != model.anatomy.d_model:
        raise HeadatlasError(
            f"the embeddings of {model.name} have {weight.shape[1]} numbers and its stream {model.anatomy.d_model}, so "
            "weight-level scores are not defined; measure z and attention instead"
        )
    return weight


def _states(model: OpenModel, tokens: Sequence[int], states: States) -> Tensor:
    """The residual-stream state used for each token: [token d_model], float32."""
    if states not in ("embedding", "mlp0"):
        raise ValueError(f"{states!r} are no states; choose 'embedding' or 'mlp0'")
    if states == "mlp0":
        return first_mlp(model, tokens)[:, 0].float()
    return embed_tokens(model, tokens).float()
