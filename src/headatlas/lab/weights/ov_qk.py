"""Scores of OV and QK circuits, computed without running prompts or forming a [d_model d_model] matrix per head.

Norms are applied exactly to single tokens, without their biases, and as folded matrices to head outputs (see
`norm_folding`). Anything else between heads, such as MLPs, is ignored.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ablation.partial_rerun import active_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.weights.first_mlp import first_mlp
from headatlas.lab.weights.norm_folding import fold_norms
from headatlas.lab.weights.token_embedding import embed_tokens
from headatlas.lab.weights.token_ranks import HELD, among_extremes

States = Literal["embedding", "mlp0"]
_kept: WeakKeyDictionary[nn.Module, tuple[Hashable, Tensor]] = WeakKeyDictionary()  # what was asked last, and counts
_ROWS = HELD // 1024  # outputs of heads ranked at once


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

    Source: wang2023interpretability, which also uses the first MLP's output in place of the embedding. Both halves of a
    detection ask for the same scores, so the last ones are kept for each model, until its weights change.

    Args:
        model: whose weights.
        tokens: token ids; by default 500 drawn from the vocabulary, or all if it has fewer.
        k: number of top (or bottom) ranks that count. Ties count against the token.
        states: the head's input: the token's 'embedding', or the first MLP's output on it ('mlp0', for models whose
            embeddings are tied).

    Raises:
        HeadatlasError: if weights, norms or unembedding are unconfirmed.
    """
    chosen = drawn_tokens(model, tokens, 500)
    _require_ranks(model, k)
    asked = (tuple(chosen), k, states, sum(weight._version for weight in model.model.parameters()))  # changes in place
    known = _kept.get(model.model) if active_hooks(model) is None else None
    if known and known[0] == asked:
        counts = known[1]
    else:
        counts = _counts(model, chosen, k, _states(model, chosen, states).expand(model.anatomy.layers, -1, -1))
    if active_hooks(model) is None:
        _kept[model.model] = asked, counts
    return _shares(model, counts, len(chosen), k)


@torch.no_grad()
def copying_of_states(model: OpenModel, tokens: Sequence[int], states: Tensor, k: int = 5) -> Copying:
    """Copying and suppression scores of every head, where it reads given states of the stream.

    Args:
        model: whose weights.
        tokens: token ids, whose ranks count.
        states: [layer token d_model], what the heads of each layer read of each token, such as the stream of a prompt.
        k: as in `copying_scores`.

    Raises:
        HeadatlasError: as in `copying_scores`.
        ValueError: where states and tokens do not fit.
    """
    chosen = drawn_tokens(model, tokens, 0)
    _require_ranks(model, k)
    wanted = (model.anatomy.layers, len(chosen), model.anatomy.d_model)
    if states.shape != wanted:
        raise ValueError(f"the states are {list(states.shape)}, not {list(wanted)}: layers, tokens, d_model")
    return _shares(model, _counts(model, chosen, k, states.float()), len(chosen), k)


def _require_ranks(model: OpenModel, k: int) -> None:
    vocabulary = len(_embedding(model))
    if not 0 < k < vocabulary:
        raise ValueError(f"k is {k}; it must lie between 1 and the vocabulary of {vocabulary} tokens")


def _shares(model: OpenModel, counts: Tensor, tokens: int, k: int) -> Copying:
    copying, suppression = counts / tokens
    return Copying(copying, suppression, k / len(_embedding(model)))


def _counts(model: OpenModel, chosen: Sequence[int], k: int, states: Tensor) -> Tensor:
    """How many of the tokens each head ranks at the top, and at the bottom: [2 layer head], float64.

    `states` are [layer token d_model].
    """
    anatomy = model.anatomy
    circuits, own = _Circuits(model), torch.tensor(chosen, device=model.device)
    weight = anatomy.confirmed_unembed.weight
    counts = torch.full((2, anatomy.layers, anatomy.heads), float("nan"), dtype=torch.float64)
    for layer, shape in anatomy.shapes.items():
        counts[:, layer, : shape.heads] = 0.0
        for rows in torch.split(torch.arange(len(chosen)), max(1, _ROWS // shape.heads)):
            written = circuits.lifted(layer, states[layer, rows])  # [head row d_model]
            found = among_extremes(written.flatten(0, 1), weight, own[rows].repeat(shape.heads), k)
            counts[:, layer, : shape.heads] += found.view(2, shape.heads, -1).sum(-1).cpu()
    return counts


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
    inputs = _states(model, drawn_tokens(model, tokens, 0), states)
    return ov_logits_of_states(model, inputs.expand(model.anatomy.layers, -1, -1), among)


@torch.no_grad()
def ov_logits_of_states(model: OpenModel, states: Tensor, among: Sequence[int]) -> Tensor:
    """`ov_logits` where the heads of each layer read given states of the stream.

    Args:
        model: whose weights.
        states: [layer token d_model], what the heads of each layer read of each token, such as the stream of a prompt.
        among: the tokens whose logits are returned.

    Returns:
        [layer head token among], float32.

    Raises:
        HeadatlasError: as in `ov_logits`.
    """
    circuits, among_ids = _Circuits(model), torch.tensor(drawn_tokens(model, among, 0), device=model.device)
    found = {layer: circuits.logits(layer, states[layer].float(), among_ids) for layer in model.anatomy.attention}
    return model.anatomy.stack(found, 0)


class _Circuits:
    """The OV circuits of all heads of a layer, from states [row d_model] to what the unembedding reads."""

    def __init__(self, model: OpenModel) -> None:
        self._anatomy, self._folding = model.anatomy, fold_norms(model)
        self._unembed = model.anatomy.confirmed_unembed
        self._zero = self._unembed.normed(torch.zeros(1, model.anatomy.d_model, device=model.device))  # its bias

    def logits(self, layer: int, states: Tensor, among: Tensor) -> Tensor:
        """Logits of some tokens for each state: [head row among], float32."""
        found, zero = (self._unembed.logits_of(each, among).float() for each in (self._read(layer, states), self._zero))
        return found - zero

    def lifted(self, layer: int, states: Tensor) -> Tensor:
        """[head row d_model], whose products with rows of the unembedding are ordered as the logits; float32."""
        return (self._read(layer, states).float() - self._zero.float()) * self._unembed.scale

    def _read(self, layer: int, states: Tensor) -> Tensor:
        """What the unembedding reads where a head's output is all that is in the stream: [head row d_model]."""
        read = self._folding.reads(layer, states)
        return self._unembed.normed(self._folding.written(layer, self._anatomy.ov(layer).apply(read)))


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
