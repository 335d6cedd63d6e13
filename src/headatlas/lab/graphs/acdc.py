"""Pruning in the manner of ACDC (Conmy et al. 2023) over heads: leave out every edge that the output does not miss.

An edge is the direct way from what a writer (the embedding or a head) adds to the stream to what a later head, or the
logits, read there. A removed edge carries what its writer adds in the corrupted run. MLPs are no nodes: each reads the
whole current stream, so that what passes through them is never removed.

Readers are visited from the output backwards: the logits, then the heads from the last layer and the last head down;
and of each reader its writers likewise, the embedding last. The result depends on that order.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.interventions import on_projection, on_stream
from headatlas.lab.anatomy import gates
from headatlas.lab.graphs.edge_scores import require_pairs, stream_contributions
from headatlas.lab.graphs.flow import EMBEDDING, LOGITS, Graph
from headatlas.lab.hooks.attention_interface import (
    AttentionCall,
    AttentionHook,
    AttentionPreHook,
    attention_hooks,
    attention_pre_hooks,
)
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import OnDone, batches, readout_tensors, stack_tokens
from headatlas.lab.running.forward import forward
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

# A writer is a head, or None for the embedding; a reader is a head, or None for the logits.
Removed = dict[Head | None, set[Head | None]]


@torch.no_grad()
def prune_edges(
    model: OpenModel,
    prompts: Sequence[Prompt],
    tau: float,
    heads: Iterable[Head] | None = None,
    most: int = 2000,
    progress: OnDone | None = None,
) -> Graph:
    """Remove edges one by one, and keep each removed that raises the KL divergence from the clean output by less.

    Args:
        model: to run.
        prompts: with readouts; their corrupted prompts are the source.
        tau: the rise of the divergence, in nats per readout, from which an edge is kept.
        heads: which heads are nodes, all by default; edges of others stay as they are.
        most: more edges than this are refused, as each takes a run.
        progress: called with the number of edges tried since.

    Returns:
        The edges kept, whose `weight` is the rise when they were tried; the graph has the `divergence` left, `tau`,
        and how many edges were `tried`. A head with no edge out of it acts through MLPs alone.

    Raises:
        HeadatlasError: for too many edges, or prompts that give nothing to compare.
    """
    require_pairs(prompts)
    gates.refuse(model.anatomy.attention.values(), "pruning of edges")
    if tau <= 0:
        raise ValueError(f"tau is {tau}; it must be positive, or every edge is kept")
    order = _order(model, heads)
    tried = sum(len(senders) for _, senders in order)
    if tried > most:
        raise HeadatlasError(
            f"there are {tried} edges to try, one run each, and at most {most} are wanted; choose fewer heads "
            "(edge_attribution or sweep ranks them), or raise `most`"
        )
    folding = fold_norms(model)
    parts = [
        (len(batch), _Circuit(folding, batch)) for _, batch in batches(model, prompts, lambda each: len(each.readouts))
    ]

    def divergence(removed: Removed) -> float:
        return sum(count * circuit.divergence(removed) for count, circuit in parts) / len(prompts)

    graph, removed, current = Graph(tau=tau, tried=tried), Removed(), 0.0
    for reader, senders in order:
        for sender in senders:
            trial = {**removed, reader: removed.get(reader, set()) | {sender}}
            found = divergence(trial)
            if found - current < tau:
                removed, current = trial, found
            else:
                names = (EMBEDDING if sender is None else str(sender), LOGITS if reader is None else str(reader))
                graph.add_edge(*names, weight=found - current)
            if progress:
                progress(1)
    graph.graph["divergence"] = current
    return graph


def _order(model: OpenModel, heads: Iterable[Head] | None) -> list[tuple[Head | None, list[Head | None]]]:
    """Readers with their writers, in the order they are visited."""
    chosen = set(model.anatomy.all_heads) if heads is None else set(heads)
    model.anatomy.require(chosen)
    backwards = sorted(chosen, reverse=True)
    order: list[tuple[Head | None, list[Head | None]]] = [(None, [*backwards, None])]
    for reader in backwards:
        order.append((reader, [*(sender for sender in backwards if sender.layer < reader.layer), None]))
    return order


class _Circuit:
    """A batch of prompts that can be run with edges removed.

    Readers whose stream differs from the model's own get a copy of the batch in the block they belong to: the copy
    enters with their stream, and the head's queries, keys and values are taken from it.
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
        """KL divergence of the clean output from that with edges removed, in nats, mean over readouts."""
        found = self._outputs(self._run(removed))
        return (self._target.exp() * (self._target - found)).sum(-1).mean().item()

    def _run(self, removed: Removed) -> Tensor:
        anatomy, added = self._model.anatomy, dict[int, Tensor]()
        rewrites: dict[nn.Module, AttentionPreHook] = {}
        taps: dict[nn.Module, AttentionHook] = {}
        with ExitStack() as stack:
            for layer, module in anatomy.attention.items():
                block = _Block(len(self._tokens), [r for r in removed if r is not None and r.layer == layer])
                rewrites[module], taps[module] = block.merge, block.spread
                streams = self._streams(block, removed, added)
                stack.callback(on_stream(anatomy, layer, streams).remove)
                stack.callback(on_projection(anatomy, layer, self._note(layer, added)).remove)
            end = self._streams(_Block(len(self._tokens), []), removed, added, last=True)
            stack.callback(on_stream(anatomy, anatomy.layers, end).remove)
            stack.enter_context(attention_pre_hooks(rewrites))
            stack.enter_context(attention_hooks(taps))
            return forward(self._model, self._tokens, positions=self._keep)

    def _note(self, layer: int, added: dict[int, Tensor]) -> Callable[[Tensor, Tensor], None]:
        def note(z: Tensor, out: Tensor) -> None:
            count = len(self._tokens)
            added[layer] = self._folding.added(layer, z[:count], out[:count])

        return note

    def _streams(
        self, block: "_Block", removed: Removed, added: dict[int, Tensor], last: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """What enters a block: the stream, then a copy for each reader with edges removed."""

        def enter(stream: Tensor) -> Tensor:
            stream = stream[: len(self._tokens)]  # the copies of the block before have served
            if last:
                return (stream.float() + self._change(removed.get(None, set()), added, stream)).to(stream)
            changed = [stream.float() + self._change(removed[reader], added, stream) for reader in block.readers]
            return torch.cat([stream, *(each.to(stream) for each in changed)])

        return enter

    def _change(self, senders: set[Head | None], added: dict[int, Tensor], stream: Tensor) -> Tensor:
        """What removed edges change in a reader's stream: [batch position d_model]."""
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
    """How the copies of a batch stand in one block: the batch itself, then one copy for each of the readers."""

    batch: int
    readers: list[Head]

    def merge(self, call: AttentionCall) -> AttentionCall:
        """Queries, keys and values of each head from its own copy: those of one batch."""
        if not self.readers:
            return call
        heads = call.query.shape[1]
        own = torch.zeros(heads, dtype=torch.long)
        own[[reader.head for reader in self.readers]] = torch.arange(1, len(self.readers) + 1)

        def of_heads(each: Tensor) -> Tensor:
            copies = each.reshape(-1, self.batch, *each.shape[1:])  # [copy batch head|kv_head position d_head]
            shared = torch.arange(heads) * each.shape[1] // heads
            return copies[own.to(each.device), :, shared.to(each.device)].transpose(0, 1)

        return replace(call, query=of_heads(call.query), key=of_heads(call.key), value=of_heads(call.value))

    def spread(self, call: AttentionCall, z: Tensor) -> Tensor | None:
        """z of the one batch, for all copies to go on with."""
        return z.repeat(len(self.readers) + 1, 1, 1, 1) if self.readers else None
