"""Automatic circuit discovery over heads, after ACDC (conmy2023towards): prune every edge the output does not need.

An edge leads from a sender (the embedding or a head) to a receiver (a later head or the logits) along the residual
stream. A pruned edge carries the sender's contribution in the corrupted run. MLPs are not nodes: each reads the whole
current stream, so paths through MLPs are never pruned.

Receivers are visited from the output backwards: the logits, then heads from the last layer and last head down. For each
receiver, senders are visited in the same order, the embedding last. The result depends on this order.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import on_projection, on_stream
from headatlas.lab.anatomy import gates
from headatlas.lab.graphs.edge_scores import require_pairs, stream_contributions
from headatlas.lab.graphs.graph import EMBEDDING, LOGITS, new_graph
from headatlas.lab.hooks.attention_interface import (
    AttentionCall,
    AttentionHook,
    AttentionPreHook,
    attention_hooks,
    attention_pre_hooks,
)
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import OnDone, batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import forward
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head, HeadsLike
from headatlas.stimuli.prompts import Prompt

if TYPE_CHECKING:
    from headatlas.lab.graphs.graph import Graph

# Pruned senders by receiver. None means the embedding as a sender, and the logits as a receiver.
Removed = dict[Head | None, set[Head | None]]


@torch.no_grad()
def prune_edges(
    model: OpenModel,
    prompts: Sequence[Prompt],
    tau: float,
    heads: HeadsLike | None = None,
    most: int = 2000,
    progress: OnDone | None = None,
) -> "Graph":
    """Prune edges one by one if that raises the KL divergence from the clean output by less than `tau`.

    Args:
        model: to run.
        prompts: with readouts; their corrupted prompts are the source.
        tau: threshold on the rise of the divergence, in nats per readout, from which an edge is kept.
        heads: heads that are nodes, all by default; edges of other heads stay as they are.
        most: maximum number of edges to try, each of which takes a run.
        progress: called with the number of edges tried since the last call.

    Returns:
        The kept edges, with the rise when they were tried as `weight`. Graph attributes: remaining `divergence`, `tau`,
        and the number of edges `tried`. A head without outgoing edges acts through MLPs only.

    Raises:
        HeadatlasError: for too many edges, or prompts equal to their corrupted prompts.
    """
    require_pairs(prompts)
    gates.refuse(model.anatomy.attention.values(), "edge pruning")
    if tau <= 0:
        raise ValueError(f"tau is {tau}; it must be positive, or every edge is kept")
    order = _order(model, heads)
    tried = sum(len(senders) for _, senders in order)
    if tried > most:
        raise HeadatlasError(
            f"there are {tried} edges to try, one run each, but `most` is {most}; choose fewer heads "
            "(edge_attribution or sweep ranks them), or raise `most`"
        )
    folding = fold_norms(model)
    parts = [
        (len(batch), _Circuit(folding, batch)) for _, batch in batches(model, prompts, lambda each: len(each.readouts))
    ]

    def divergence(removed: Removed) -> float:
        return sum(count * circuit.divergence(removed) for count, circuit in parts) / len(prompts)

    graph, removed, current = new_graph(tau=tau, tried=tried), Removed(), 0.0
    for receiver, senders in order:
        for sender in senders:
            trial = {**removed, receiver: removed.get(receiver, set()) | {sender}}
            found = divergence(trial)
            if found - current < tau:
                removed, current = trial, found
            else:
                names = (EMBEDDING if sender is None else str(sender), LOGITS if receiver is None else str(receiver))
                graph.add_edge(*names, weight=found - current)
            if progress:
                progress(1)
    graph.graph["divergence"] = current
    return graph


def _order(model: OpenModel, heads: HeadsLike | None) -> list[tuple[Head | None, list[Head | None]]]:
    """Receivers with their senders, in the order they are visited."""
    chosen = model.anatomy.require(model.anatomy.all_heads if heads is None else heads)
    backwards = sorted(set(chosen), reverse=True)
    order: list[tuple[Head | None, list[Head | None]]] = [(None, [*backwards, None])]
    for receiver in backwards:
        order.append((receiver, [*(sender for sender in backwards if sender.layer < receiver.layer), None]))
    return order


class _Circuit:
    """A batch of prompts that can be run with edges pruned.

    Each receiver with pruned edges gets a copy of the batch in its block. The copy enters with the receiver's own
    stream, and the head's queries, keys and values are taken from it.
    """

    def __init__(self, folding: FoldedNorms, batch: Sequence[Prompt]) -> None:
        self._folding, self._model = folding, folding.model
        self._tokens = stack_tokens([prompt.tokens for prompt in batch])
        self._keep, self._where, _, _ = readout_tensors(batch)
        self._clean = stream_contributions(folding, self._tokens).embedding
        self._corrupted = stream_contributions(folding, stack_tokens([prompt.corrupted for prompt in batch]))
        self._target = self._outputs(forward(self._model, self._tokens, positions=self._keep))

    def _outputs(self, logits: Tensor) -> Tensor:
        """Log-probabilities at the readouts: [prompt readout vocabulary]."""
        where = self._where.to(logits.device)
        return logits[torch.arange(len(where), device=logits.device)[:, None], where].double().log_softmax(-1)

    def divergence(self, removed: Removed) -> float:
        """KL divergence of the clean output from the output with edges pruned, in nats, mean over readouts."""
        found = self._outputs(self._run(removed))
        return (self._target.exp() * (self._target - found)).sum(-1).mean().item()

    def _run(self, removed: Removed) -> Tensor:
        anatomy, added = self._model.anatomy, dict[int, Tensor]()
        pre_hooks: dict[nn.Module, AttentionPreHook] = {}
        hooks: dict[nn.Module, AttentionHook] = {}
        with ExitStack() as stack:
            for layer, module in anatomy.attention.items():
                block = _Block(len(self._tokens), [r for r in removed if r is not None and r.layer == layer])
                pre_hooks[module], hooks[module] = block.merge, block.spread
                streams = self._streams(block, removed, added)
                stack.callback(on_stream(anatomy, layer, streams).remove)
                stack.callback(on_projection(anatomy, layer, self._note(layer, added)).remove)
            end = self._streams(_Block(len(self._tokens), []), removed, added, last=True)
            stack.callback(on_stream(anatomy, anatomy.layers, end).remove)
            stack.enter_context(attention_pre_hooks(pre_hooks))
            stack.enter_context(attention_hooks(hooks))
            return forward(self._model, self._tokens, positions=self._keep)

    def _note(self, layer: int, added: dict[int, Tensor]) -> Callable[[Tensor, Tensor], None]:
        def note(z: Tensor, out: Tensor) -> None:
            count = len(self._tokens)
            added[layer] = self._folding.added(layer, z[:count], out[:count])

        return note

    def _streams(
        self, block: "_Block", removed: Removed, added: dict[int, Tensor], last: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """Input of a block: the stream, then one copy per receiver with pruned edges."""

        def enter(stream: Tensor) -> Tensor:
            stream = stream[: len(self._tokens)]  # drop the copies of the previous block
            if last:
                return (stream.float() + self._change(removed.get(None, set()), added, stream)).to(stream)
            changed = [stream.float() + self._change(removed[receiver], added, stream) for receiver in block.receivers]
            return torch.cat([stream, *(each.to(stream) for each in changed)])

        return enter

    def _change(self, senders: set[Head | None], added: dict[int, Tensor], stream: Tensor) -> Tensor:
        """Change of a receiver's stream by its pruned edges: [batch position d_model]."""
        total = torch.zeros_like(stream, dtype=torch.float32)
        for sender in senders:
            if sender is None:
                total += (self._corrupted.embedding - self._clean).to(total)
            else:
                layer, head = sender
                total += (self._corrupted.heads[layer][head] - added[layer][head]).to(total)
        return total


@dataclass(frozen=True)
class _Block:
    """The copies of a batch in one block: the batch itself, then one copy per receiver with pruned edges."""

    batch: int
    receivers: list[Head]

    def merge(self, call: AttentionCall) -> AttentionCall:
        """Take queries, keys and values of each head from its own copy, giving those of one batch."""
        if not self.receivers:
            return call
        heads = call.query.shape[1]
        own = torch.zeros(heads, dtype=torch.long)
        own[[receiver.head for receiver in self.receivers]] = torch.arange(1, len(self.receivers) + 1)

        def of_heads(each: Tensor) -> Tensor:
            copies = each.reshape(-1, self.batch, *each.shape[1:])  # [copy batch head|kv_head position d_head]
            shared = torch.arange(heads) * each.shape[1] // heads
            return copies[own.to(each.device), :, shared.to(each.device)].transpose(0, 1)

        return replace(call, query=of_heads(call.query), key=of_heads(call.key), value=of_heads(call.value))

    def spread(self, call: AttentionCall, z: Tensor) -> Tensor | None:
        """Repeat z of the batch for all copies."""
        return z.repeat(len(self.receivers) + 1, 1, 1, 1) if self.receivers else None
