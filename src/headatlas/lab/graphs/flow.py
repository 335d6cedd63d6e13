"""Information flow routes (ferrando2024information): a graph over heads, from a single prompt.

Nodes are heads (`L5H10`), "embedding" and "logits"; edges point from sender to receiver and have a `weight`. Graphs by
gradients are in `edge_scores`, graphs by pruning in `acdc`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.activations.attention_edits import rows_of_heads
from headatlas.lab.activations.recording import record
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.graphs.graph import EMBEDDING, LOGITS, new_graph, require_readable
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.lab.running.scores import Scores
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

_EPSILON = 1e-5  # minimum proximity of a part (ferrando2024information)
_BLOCK = 2**23  # numbers held at once

if TYPE_CHECKING:
    from headatlas.lab.graphs.graph import Graph


def proximity(parts: Tensor, whole: Tensor) -> Tensor:
    """Proximity of each part to the sum it belongs to: max(|whole| - |whole - part|, epsilon), in the L1 norm.

    Args:
        parts: [part ... d_model].
        whole: [... d_model].

    Returns:
        [part ...], not normalised over parts.
    """
    return (whole.abs().sum(-1) - (whole - parts).abs().sum(-1)).clamp_min(_EPSILON)


@torch.no_grad()
def information_flow(
    model: OpenModel, tokens: Sequence[int], threshold: float = 0.01, position: int = -1, most: int = 100
) -> "Graph":
    """Trace the routes by which a model made one prediction, over heads (ferrando2024information).

    Each state of the stream is a sum: the state before it plus one vector per head and source token, then that plus the
    MLP's output. A part's proximity to the sum is normalised over all parts. An edge's weight is the probability that a
    random walk from the final state follows it: at each state the walk takes an edge with probability equal to its
    proximity and stops on edges below the threshold. The graph shows only heads; MLPs are walked through but not drawn.
    Proximity is not an effect.

    Args:
        model: to run.
        tokens: one prompt.
        threshold: minimum proximity of an edge between states.
        position: where the walk starts; the last by default.
        most: maximum number of edges between heads.

    Returns:
        A graph. Edges have the `weight` of the walk, 0 to 1; heads have their `importance`, the summed proximity of
        their kept edges. Graph attribute `reached`: share of walks that reach the embedding.

    Raises:
        HeadatlasError: for more than `most` edges, tokens or a position that do not fit, or if the stream cannot be
            split into parts.
    """
    if not -len(tokens) <= position < len(tokens):
        raise HeadatlasError(f"position {position} is outside a prompt of {len(tokens)} tokens; choose another")
    anatomy = model.anatomy
    if anatomy.hybrid or anatomy.other_mixers:
        raise HeadatlasError(
            f"in {model.name} something besides its heads moves information between positions, so the routes cannot be "
            "traced over heads alone; use flow_scores, or a model without such layers"
        )
    run = _Run(model, torch.tensor([list(tokens)]))
    # flow [position receiver]: probability that the walk is at a position, having last visited that head (last: logits)
    flow = torch.zeros(len(tokens), anatomy.layers * anatomy.heads + 1, dtype=torch.float64)
    flow[position, -1] = 1.0
    graph = new_graph(threshold=threshold)
    for layer in reversed(range(anatomy.layers)):
        step = run.step(layer)
        flow = flow * step.through_mlp(threshold)[:, None]
        active = flow.sum(1).nonzero()[:, 0]
        near, rest = step.of_heads(active, threshold)  # [head row key], [row]
        earlier = torch.zeros_like(flow)
        earlier[active] = flow[active] * rest[:, None]
        for head, each in enumerate(near):
            taken = each.T @ flow[active]  # [key receiver]
            _connect(graph, anatomy.heads, str(Head(layer, head)), taken.sum(0))
            earlier[:, layer * anatomy.heads + head] += taken.sum(1)
            if each.any():
                graph.nodes[str(Head(layer, head))]["importance"] = each.sum().item()
        flow = earlier
    _connect(graph, anatomy.heads, EMBEDDING, flow.sum(0))
    require_readable(graph.number_of_edges(), most, "raise the threshold, or `most`")
    graph.graph["reached"] = flow.sum().item()
    return graph


@torch.no_grad()
def flow_scores(model: OpenModel, prompts: Sequence[Prompt]) -> Scores:
    """Proximity of the edges between each prompt's `pairs` (ferrando2024information).

    A state after attention is the sum of the state before it and one vector per head and source token. Each part's
    proximity is normalised over all parts.

    Returns:
        Scores with one unit per prompt: summed over each query's keys, averaged over queries. The null is the same
        score in the corrupted prompt, between its `null_pairs` (or the same pairs).

    Raises:
        HeadatlasError: if the stream cannot be split into parts.
    """
    score, null = (model.anatomy.empty(len(prompts)) for _ in range(2))
    for index, batch in batches(model, prompts, lambda prompt: 1):
        size = max(1, _BLOCK // (2 * model.anatomy.layers * len(batch[0].tokens) * model.anatomy.d_model))
        for start in range(0, len(batch), size):
            part, numbers = batch[start : start + size], index[start : start + size]
            score[numbers] = _flow(model, [(prompt.tokens, prompt.pairs) for prompt in part])
            null[numbers] = _flow(model, [(prompt.corrupted, prompt.null_pairs or prompt.pairs) for prompt in part])
    return Scores(score, null)


def _flow(model: OpenModel, texts: Sequence[tuple[tuple[int, ...], Sequence[tuple[int, int]]]]) -> Array:
    """Proximity of the edges at the pairs of some texts of one length: [text layer head]."""
    run = _Run(model, stack_tokens([tokens for tokens, _ in texts]))
    return np.stack([_at_pairs(model, run, number, pairs) for number, (_, pairs) in enumerate(texts)])


def _at_pairs(model: OpenModel, run: "_Run", number: int, pairs: Sequence[tuple[int, int]]) -> Array:
    queries, keys = torch.tensor(pairs).T
    rows, row = queries.unique(return_inverse=True)
    near = {layer: run.step(layer, number).of_heads(rows, 0.0)[0] for layer in model.anatomy.attention}
    summed = {layer: each[:, row, keys].sum(-1) for layer, each in near.items()}
    flow: Array = model.anatomy.stack(summed, 0).numpy() / len(rows)
    return flow


def _connect(graph: "Graph", heads: int, sender: str, weights: Tensor) -> None:
    """Add edges from a sender to its receivers, weights [receiver]."""
    for receiver in weights.nonzero()[:, 0].tolist():
        name = LOGITS if receiver == len(weights) - 1 else str(Head(*divmod(receiver, heads)))
        graph.add_edge(sender, name, weight=weights[receiver].item())


class _Run:
    """A run of prompts [batch position] whose layers can be split into parts."""

    def __init__(self, model: OpenModel, tokens: Tensor) -> None:
        self._folding, self._calls = fold_norms(model), dict[int, tuple[AttentionCall, Tensor | None]]()
        with attention_hooks({module: self._hook(layer) for layer, module in model.anatomy.attention.items()}):
            self._seen = record(model, tokens, ["resid", "attn_out"])

    def _hook(self, layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            self._calls[layer] = call, gate(call, z)

        return look

    def step(self, layer: int, number: int = 0) -> "_Step":
        """A layer of one of the prompts."""
        call, gates = self._calls[layer]
        own = slice(number, number + 1)
        mask = call.mask if call.mask is None or len(call.mask) == 1 else call.mask[own]
        call = replace(call, query=call.query[own], key=call.key[own], value=call.value[own], mask=mask)
        seen = self._seen["resid", layer], self._seen["resid", layer + 1], self._seen["attn_out", layer]
        states = (each[number] for each in seen)
        return _Step(self._folding, layer, call, None if gates is None else gates[number], *states)


class _Step:
    """One layer of one prompt, split into parts."""

    def __init__(
        self,
        folding: FoldedNorms,
        layer: int,
        call: AttentionCall,
        gates: Tensor | None,  # [position head d_head]
        before: Tensor,  # [position d_model], the stream before the layer
        after: Tensor,
        attn_out: Tensor,
    ) -> None:
        self._folding, self._layer, self._call, self._gates = folding, layer, call, gates
        self._before, self._after, self._attn_out = before.float(), after.float(), attn_out
        norm = folding.after[layer]
        written = self._attn_out if norm is None else norm(self._attn_out[None])[0]
        self._middle = self._before + written.float()

    def through_mlp(self, threshold: float) -> Tensor:
        """Share of the walk that continues from the layer's end to the state after attention: [position], float64."""
        near = proximity(torch.stack([self._middle, self._after - self._middle]), self._after)
        near = near / near.sum(0)
        return torch.where(near > threshold, near, 0.0).sum(0).double().cpu()

    def of_heads(self, rows: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Kept proximities of heads [head row key] and of the state before [row], at some positions; float64."""
        heads, length = self._call.query.shape[1], len(self._before)
        near = torch.zeros(heads, len(rows), length)
        numbers = length * self._before.shape[-1]  # of one row of one head
        for part in torch.split(torch.arange(len(rows)), max(1, _BLOCK // numbers)):
            for chosen in torch.split(torch.arange(heads), max(1, _BLOCK // (numbers * len(part)))):
                near[chosen[:, None], part] = self._near(chosen, rows[part]).cpu()
        near = near.masked_fill(torch.arange(length) > rows[:, None], 0.0).double()
        at = rows.to(self._before.device)
        rest = proximity(self._before[None, at], self._middle[at])[0].double().cpu()
        total = near.sum((0, 2)) + rest
        near, rest = near / total[:, None], rest / total
        return torch.where(near > threshold, near, 0.0), torch.where(rest > threshold, rest, 0.0)

    def _near(self, heads: Tensor, rows: Tensor) -> Tensor:
        """Proximities of some heads' parts at some positions, before normalisation: [head row key]."""
        pattern = rows_of_heads(self._call, heads, rows)[0].transpose(0, 1)  # [head row key]
        pieces = pattern[..., None] * self._values(heads, rows) * self._scale(rows)
        whole = self._middle[rows.to(pieces.device), None].expand(*pieces.shape[1:])
        return proximity(pieces, whole)

    def _values(self, heads: Tensor, rows: Tensor) -> Tensor:
        """Each value's contribution if it were attended alone, before any norm: [head row|1 key d_model]."""
        groups = self._call.query.shape[1] // self._call.value.shape[1]
        value = self._call.value[0, heads // groups, None].float()  # [head 1 key d_head]
        if self._gates is not None:
            value = value * self._gates[rows][:, heads].transpose(0, 1)[:, :, None].to(value)
        return value @ self._folding.model.anatomy.w_o(self._layer)[heads, None].float()

    def _scale(self, rows: Tensor) -> Tensor:
        """Factor of the norm after attention at these positions: [row 1 d_model], or 1 without a norm."""
        if self._folding.after[self._layer] is None:
            return torch.ones(1, 1, 1, device=self._before.device)
        at = rows.to(self._before.device)
        return self._folding.scale(self._layer, self._attn_out[at])[:, None]
