"""Edge attribution patching: first-order estimates of each head's effect on later heads and on the logits.

An edge is the direct path along the residual stream; what MLPs or other heads in between compute from a contribution
counts as theirs. The estimate is (sender's contribution in the corrupted run - in the clean run) . d behaviour /
d (receiver's input) (syed2023attribution). Use it to rank edges, and measure the top ones (see `acdc`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import on_stream
from headatlas.lab.activations.recording import record
from headatlas.lab.anatomy import gates
from headatlas.lab.graphs.graph import EMBEDDING, LOGITS, new_graph
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionPreHook, attention_pre_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import logits_at
from headatlas.lab.running.metrics import Metric
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

if TYPE_CHECKING:
    from headatlas.lab.graphs.graph import Graph

KINDS = ("q", "k", "v")


@dataclass(frozen=True)
class StreamContributions:
    """Contributions of every sender to the residual stream, for one batch.

    Attributes:
        embedding: [batch position d_model], input of the first block.
        heads: per layer with attention [head batch position d_model].
    """

    embedding: Tensor
    heads: Mapping[int, Tensor]


def stream_contributions(folding: FoldedNorms, tokens: Tensor) -> StreamContributions:
    """Run prompts [batch position] and split the residual stream into contributions."""
    seen = record(folding.model, tokens, ["resid", "z", "attn_out"])
    layers = folding.model.anatomy.attention
    heads = {layer: folding.added(layer, seen["z", layer], seen["attn_out", layer]) for layer in layers}
    return StreamContributions(seen["resid", 0].float(), heads)


def require_pairs(prompts: Sequence[Prompt]) -> None:
    """Check that there are prompts, with readouts, that differ from their corrupted prompts; raise an error if not."""
    if not prompts:
        raise ValueError("no prompts; give at least one")
    if not all(prompt.readouts for prompt in prompts):
        raise HeadatlasError("a prompt has no readout, so there is no behaviour to read; give each at least one")
    if all(prompt.tokens == prompt.corrupted for prompt in prompts):
        raise HeadatlasError(
            "prompts and corrupted prompts are equal, so no edge carries anything; give corrupted prompts that differ"
        )


def edge_attribution(model: OpenModel, prompts: Sequence[Prompt], metric: Metric, most: int = 50) -> "Graph":
    """Rank edges between heads by how much corrupting them would change a behaviour, to first order.

    Source: syed2023attribution.

    Args:
        model: to run.
        prompts: with readouts; their corrupted prompts are the source.
        metric: a metric with a gradient, such as `logit_difference`.
        most: number of edges to keep, by absolute weight; edges of weight 0 are left out.

    Returns:
        A graph. An edge's `weight` is the estimated change of the behaviour per prompt when the edge is corrupted.
        Edges into heads also have the parts through the head's `q`, `k` and `v`.

    Raises:
        HeadatlasError: for prompts without readouts, or a behaviour without a gradient.
    """
    require_pairs(prompts)
    gates.refuse(model.anatomy.attention.values(), "edge attribution")
    folding, weights = fold_norms(model), _Weights(model)
    for _, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        clean, corrupted = (
            stream_contributions(folding, stack_tokens([getattr(prompt, name) for prompt in batch]))
            for name in ("tokens", "corrupted")
        )
        changes = StreamContributions(
            corrupted.embedding - clean.embedding,
            {layer: written - clean.heads[layer] for layer, written in corrupted.heads.items()},
        )
        weights.add(changes, _Reads(model, batch, metric))
    return weights.graph(most, len(prompts))


class _Reads:
    """A forward pass of a batch, and the gradients at every receiver's input."""

    def __init__(self, model: OpenModel, batch: Sequence[Prompt], metric: Metric) -> None:
        anatomy = model.anatomy
        self.streams: dict[int, Tensor] = {}  # before each layer and after the last: [batch position d_model]
        self.inputs: dict[int, tuple[Tensor, ...]] = {}  # q, k, v: [batch head position d_head], one per query head
        positions, where, answers, rivals = (each.to(model.device) for each in readout_tensors(batch))
        pre_hooks: dict[nn.Module, AttentionPreHook] = {
            m: self._pre_hook(layer) for layer, m in anatomy.attention.items()
        }
        with ExitStack() as stack:
            for layer in range(anatomy.layers + 1):
                stack.callback(on_stream(anatomy, layer, self._keep(layer)).remove)
            stack.enter_context(attention_pre_hooks(pre_hooks))
            stack.enter_context(torch.enable_grad())
            tokens = stack_tokens([prompt.tokens for prompt in batch]).to(model.device)
            logits = logits_at(model, tokens, positions)
            chosen = logits[torch.arange(len(tokens), device=logits.device)[:, None], where.to(logits.device)]
            value = metric(chosen, answers.to(logits.device), rivals.to(logits.device)).sum()
        if not value.requires_grad:
            raise HeadatlasError(
                "this behaviour has no gradient (it counts, or compares); use logit_difference or log_probability"
            )
        found = [each for layer in anatomy.attention for each in self.inputs[layer]]
        *gradients, self.at_end = torch.autograd.grad(value, [*found, self.streams[anatomy.layers]], retain_graph=True)
        self._gradients = {
            layer: tuple(gradients[3 * place : 3 * place + 3]) for place, layer in enumerate(anatomy.attention)
        }
        if not all(torch.isfinite(each).all() for each in gradients):
            raise HeadatlasError(f"{model.name} gave NaN gradients; try float32")

    def _keep(self, layer: int) -> Callable[[Tensor], Tensor | None]:
        def change(stream: Tensor) -> Tensor | None:
            if layer == 0:
                stream = stream.detach().requires_grad_()
            self.streams[layer] = stream
            return stream if layer == 0 else None

        return change

    def _pre_hook(self, layer: int) -> AttentionPreHook:
        def pre_hook(call: AttentionCall) -> AttentionCall:
            groups = call.query.shape[1] // call.key.shape[1]
            key, value = (each.repeat_interleave(groups, 1) for each in (call.key, call.value))
            self.inputs[layer] = (call.query, key, value)
            return replace(call, key=key, value=value)

        return pre_hook

    def of_head(self, layer: int, head: int) -> Tensor:
        """Gradient at a head's input, through its queries, keys and values: [kind batch position d_model]."""
        gradients: list[Tensor] = []
        for read, gradient in zip(self.inputs[layer], self._gradients[layer], strict=True):
            alone = torch.zeros_like(gradient)
            alone[:, head] = gradient[:, head]
            gradients += torch.autograd.grad(read, self.streams[layer], alone, retain_graph=True)
        return torch.stack(gradients).float()


@dataclass
class _Weights:
    """Sums of weights over prompts, by sender and receiver: one number, or one each for q, k and v."""

    model: OpenModel
    sums: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def add(self, changes: StreamContributions, reads: _Reads) -> None:
        anatomy = self.model.anatomy
        self._read(LOGITS, anatomy.layers, changes, reads.at_end.float()[None])
        for layer, head in anatomy.all_heads:
            self._read(str(Head(layer, head)), layer, changes, reads.of_head(layer, head))

    def _read(self, receiver: str, layer: int, changes: StreamContributions, gradients: Tensor) -> None:
        """Add the weights of a receiver's incoming edges, from its gradients [kind batch position d_model]."""
        self._sum(EMBEDDING, receiver, torch.einsum("bqm,kbqm->k", changes.embedding.to(gradients), gradients))
        for earlier, change in changes.heads.items():
            if earlier >= layer:
                break
            found = torch.einsum("hbqm,kbqm->hk", change.to(gradients), gradients)
            for head, each in enumerate(found):
                self._sum(str(Head(earlier, head)), receiver, each)

    def _sum(self, sender: str, receiver: str, found: Tensor) -> None:
        found = found.double().cpu()
        self.sums[sender, receiver] = self.sums.get((sender, receiver), torch.zeros_like(found)) + found

    def graph(self, most: int, prompts: int) -> "Graph":
        """The graph of the strongest edges."""
        ranked = sorted(self.sums.items(), key=lambda item: -abs(item[1].sum().item()))
        graph = new_graph()
        for (sender, receiver), parts in ranked[:most]:
            weight = parts.sum().item() / prompts
            if weight:
                kinds = dict(zip(KINDS, (parts / prompts).tolist(), strict=True)) if len(parts) > 1 else {}
                graph.add_edge(sender, receiver, weight=weight, **kinds)
        return graph
