"""Graphs over heads, small enough to read, and the one that needs no second prompt: where information flowed.

Nodes are heads (`L5H10`), "embedding" and "logits"; edges go from writer to reader and carry a `weight`. Graphs by
gradients and by pruning are made in `edges` and `pruning`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.attention_edits import rows_of_heads
from headatlas.lab.activations.recording import record
from headatlas.lab.activations.sites import Recording
from headatlas.lab.anatomy.gates import gate
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook, attention_hooks
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import Array
from headatlas.lab.running.scores import Scores
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

EMBEDDING, LOGITS = "embedding", "logits"
_EPSILON = 1e-5  # the least nearness of a part (Ferrando & Voita 2024)
_BLOCK = 2**23  # numbers held at once

if TYPE_CHECKING:  # networkx has type parameters in its stubs only
    Graph = nx.DiGraph[str]
else:
    Graph = nx.DiGraph


def require_readable(edges: int, most: int, advice: str) -> None:
    """Raise a HeadatlasError where a graph has more edges than the user wants to read."""
    if edges > most:
        raise HeadatlasError(f"the graph has {edges} edges, more than the {most} that are to be read; {advice}")


def proximity(parts: Tensor, whole: Tensor) -> Tensor:
    """How near each part lies to the sum it enters: max(|whole| - |whole - part|, epsilon), in the L1 norm.

    Args:
        parts: [part ... d_model].
        whole: [... d_model].

    Returns:
        [part ...], not yet divided by its sum over parts.
    """
    return (whole.abs().sum(-1) - (whole - parts).abs().sum(-1)).clamp_min(_EPSILON)


@torch.no_grad()
def information_flow(
    model: OpenModel, tokens: Sequence[int], threshold: float = 0.01, position: int = -1, most: int = 100
) -> Graph:
    """The routes by which one prediction was made (Ferrando & Voita 2024), over heads.

    Each state of the stream is a sum: the state before, and one vector per head and source token; then that, and what
    the MLP adds. Each part has its nearness to the sum, divided by the nearness of all parts. From the last state of
    the token under study the edges above the threshold are walked back. Of the walker, who takes a kept edge with the
    probability of its nearness and is lost on the others, the graph tells which head it met after which: an MLP is
    passed through at its token. Nearness to a sum is not an effect.

    Args:
        model: to run.
        tokens: one prompt.
        threshold: edges between states are kept above it.
        position: of the token under study; the last by default.
        most: more edges between heads than this are refused.

    Returns:
        Edges have the `weight` of the walk, 0 to 1; heads have their `importance`, the nearness of all their kept
        edges. The graph has the share of walks that reach the embedding, `reached`.

    Raises:
        HeadatlasError: for more than `most` edges, tokens or a position that do not fit, or where parts of the stream
            could not be told apart.
    """
    if not -len(tokens) <= position < len(tokens):
        raise HeadatlasError(f"position {position} is outside a prompt of {len(tokens)} tokens; choose another")
    anatomy = model.anatomy
    if anatomy.hybrid or anatomy.other_mixers:
        raise HeadatlasError(
            f"in {model.name} something beside its heads carries information from one position to another, so that the "
            "routes cannot be walked back over heads alone; use flow_scores, or a model without such layers"
        )
    run = _Run(model, tokens)
    # flow [position reader]: how much of the walk is at a position, and which head (or the logits, last) it met last
    flow = torch.zeros(len(tokens), anatomy.layers * anatomy.heads + 1, dtype=torch.float64)
    flow[position, -1] = 1.0
    graph = Graph(threshold=threshold)
    for layer in reversed(range(anatomy.layers)):
        step = run.step(layer)
        flow = flow * step.through_mlp(threshold)[:, None]
        active = flow.sum(1).nonzero()[:, 0]
        near, rest = step.of_heads(active, threshold)  # [head row key], [row]
        earlier = torch.zeros_like(flow)
        earlier[active] = flow[active] * rest[:, None]
        for head, each in enumerate(near):
            taken = each.T @ flow[active]  # [key reader]
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
    """The nearness of the edges between each prompt's `pairs`, as in `information_flow`.

    A state after attention is the sum of the state before it and of one vector per head and source token; an edge has
    the share of the nearness of all these parts that its part has.

    Returns:
        Scores with one unit per prompt: summed over each query's keys, averaged over its queries; the corrupted prompt
            is that
        between the `null_pairs` (or the same) in the corrupted prompt.

    Raises:
        HeadatlasError: where parts of the stream could not be told apart.
    """
    score = np.stack([_flow(model, prompt.tokens, prompt.pairs) for prompt in prompts])
    null = np.stack([_flow(model, prompt.corrupted, prompt.null_pairs or prompt.pairs) for prompt in prompts])
    return Scores(score, null)


def _flow(model: OpenModel, tokens: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Array:
    """[layer head]"""
    run, (queries, keys) = _Run(model, tokens), torch.tensor(pairs).T
    rows, row = queries.unique(return_inverse=True)
    near = {layer: run.step(layer).of_heads(rows, 0.0)[0] for layer in model.anatomy.attention}  # [head row key] each
    summed = {layer: each[:, row, keys].sum(-1) for layer, each in near.items()}
    flow: Array = model.anatomy.stack(summed, 0).numpy() / len(rows)
    return flow


def _connect(graph: Graph, heads: int, writer: str, weights: Tensor) -> None:
    """Add edges from a writer to its readers, weights [reader]."""
    for reader in weights.nonzero()[:, 0].tolist():
        name = LOGITS if reader == len(weights) - 1 else str(Head(*divmod(reader, heads)))
        graph.add_edge(writer, name, weight=weights[reader].item())


class _Run:
    """One prompt, run, so that each of its layers can be taken apart."""

    def __init__(self, model: OpenModel, tokens: Sequence[int]) -> None:
        self._folding, self._calls = fold_norms(model), dict[int, tuple[AttentionCall, Tensor | None]]()
        watch: dict[nn.Module, AttentionHook] = {
            module: self._tap(layer) for layer, module in model.anatomy.attention.items()
        }
        with attention_hooks(watch):
            self._seen = record(model, torch.tensor([list(tokens)]), ["resid", "attn_out"])

    def _tap(self, layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            self._calls[layer] = call, gate(call, z)

        return look

    def step(self, layer: int) -> "_Step":
        return _Step(self._folding, layer, *self._calls[layer], self._seen)


class _Step:
    """One layer of one prompt, taken apart."""

    def __init__(
        self, folding: FoldedNorms, layer: int, call: AttentionCall, gates: Tensor | None, seen: Recording
    ) -> None:
        self._folding, self._layer, self._call, self._gates = folding, layer, call, gates
        self._before = seen["resid", layer][0].float()  # [position d_model]
        self._after = seen["resid", layer + 1][0].float()
        self._attn_out = seen["attn_out", layer]  # [1 position d_model]
        norm = folding.after[layer]
        written = self._attn_out if norm is None else norm(self._attn_out)
        self._middle = self._before + written[0].float()

    def through_mlp(self, threshold: float) -> Tensor:
        """The share of the walk that passes from the layer's end to after attention: [position], float64."""
        near = proximity(torch.stack([self._middle, self._after - self._middle]), self._after)
        near = near / near.sum(0)
        return torch.where(near > threshold, near, 0.0).sum(0).double().cpu()

    def of_heads(self, rows: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Kept nearness of heads [head row key] and of the state before [row], at some positions; float64."""
        heads, length = self._call.query.shape[1], len(self._before)
        near = torch.zeros(heads, len(rows), length)
        size = max(1, _BLOCK // (length * self._before.shape[-1]))
        for head in range(heads):
            values = self._values(head, None)  # [1 key d_model]
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                pattern = rows_of_heads(self._call, torch.tensor([head]), part)[0, :, 0]  # [row key]
                scale = self._scale(part)  # [row 1 d_model]
                if self._gates is not None:
                    values = self._values(head, self._gates[0, part, head])
                pieces = pattern[:, :, None] * values * scale
                whole = self._middle[part.to(values.device), None].expand_as(pieces)
                near[head, start : start + size] = proximity(pieces[None], whole)[0].cpu()
        near = near.masked_fill(torch.arange(length) > rows[:, None], 0.0).double()
        at = rows.to(self._before.device)
        rest = proximity(self._before[None, at], self._middle[at])[0].double().cpu()
        total = near.sum((0, 2)) + rest
        near, rest = near / total[:, None], rest / total
        return torch.where(near > threshold, near, 0.0), torch.where(rest > threshold, rest, 0.0)

    def _values(self, head: int, gates: Tensor | None) -> Tensor:
        """What each key's value would add if attended alone, before any norm: [row|1 key d_model].

        Args:
            head: that attends.
            gates: of the rows, [row d_head], where the model has some.
        """
        groups = self._call.query.shape[1] // self._call.value.shape[1]
        value = self._call.value[:1, head // groups].float()  # [1 key d_head]
        value = value if gates is None else value * gates[:, None].to(value)
        return value @ self._folding.model.anatomy.w_o(self._layer)[head].float()

    def _scale(self, rows: Tensor) -> Tensor:
        """What the norm after attention multiplies by at these positions: [row 1 d_model], or 1."""
        if self._folding.after[self._layer] is None:
            return torch.ones(1, 1, 1, device=self._before.device)
        at = rows.to(self._before.device)
        return self._folding.scale(self._layer, self._attn_out[0, at])[:, None]
