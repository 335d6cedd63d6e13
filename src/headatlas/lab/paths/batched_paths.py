"""Path patching of many senders at once, computing only what the convention requires."""

from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor, nn

from headatlas.lab.ablation.batched_copies import CopiesInBatch, copies_per_run
from headatlas.lab.ablation.partial_rerun import cut_last, shareable
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.edits import patch
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.activations.sites import Positions, Recording, Site, located
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.module_hooks import acting, gives, on_input, states_of, with_states
from headatlas.lab.paths.path_patching import PathRuns, Receiver, by_input, patched_logits
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import FIRST, forward
from headatlas.notation import Head

Reached = dict[tuple[Site, int] | Literal["logits"], Tensor]  # activations at the receivers, by site and layer


class BatchedPathPatching:
    """Path patching from heads of one layer to the receivers; each run holds one copy of the prompts per sender."""

    def __init__(
        self,
        runs: PathRuns,
        receivers: tuple[Receiver, ...] | Literal["logits"],
        sender_positions: Positions,
        receiver_positions: Positions,
    ) -> None:
        self.runs, self.model, self.trace = runs, runs.model, runs.trace
        self.receivers, self._where = receivers, (sender_positions, receiver_positions)
        batch, length = runs.tokens.shape
        self.ends = {} if receivers == "logits" else by_input(receivers)
        self.model.anatomy.require(head for heads in self.ends.values() for head in heads)
        self._reading = sorted({head.layer for heads in self.ends.values() for head in heads})
        self.layers = self._reading[-1] if self._reading else self.model.anatomy.layers  # senders come before
        at = runs.kept.expand(batch, -1) if receivers == "logits" else located(receiver_positions, batch, length)
        self._at = at  # [batch reached], positions of the receivers
        sending = located(sender_positions, batch, length)  # [batch sent]
        self._sent = (at[:, :, None] == sending[:, None, :]).any(-1)  # [batch reached], whether a sender is there too

    @property
    def width(self) -> int:
        """Number of receiver positions per prompt."""
        return self._at.shape[1]

    def in_full(self, layer: int, head: int) -> Tensor:
        """Path patching of one head with full runs: [batch kept vocabulary]."""
        return patched_logits(self.runs, [Head(layer, head)], self.receivers, *self._where)

    def copies(self, memory: int | None) -> int:
        """Number of senders that fit into one run."""
        batch, length = self.runs.tokens.shape
        width = length if self.ends else self.width
        return copies_per_run(self.model, batch, length, width, self.runs.logits[0].numel(), memory)

    def logits(self, layer: int, heads: Tensor) -> Tensor:
        """The kept logits with the path from each of these heads patched: [sender batch kept vocabulary]."""
        reached = self._send(layer, heads)
        return self._receive(layer, reached, len(heads)) if self.ends else self._apart(reached["logits"], len(heads))

    def _apart(self, rows: Tensor, copies: int) -> Tensor:
        """[sender row ...] -> [sender batch position ...]"""
        return rows.expand(copies, *rows.shape[1:]).reshape(copies, *self._at.shape, *rows.shape[2:])

    def _send(self, layer: int, heads: Tensor) -> Reached:
        """First run: queries, keys or values at the receivers [sender row head d_head], or logits [sender row token].

        Rows are the receiver positions of all prompts, [batch reached] flattened.
        """
        reached: Reached = {}
        tokens = self._rows(self.runs.tokens).expand(len(heads), -1)
        hooks: dict[nn.Module, AttentionHook] = {}
        with ExitStack() as stack:
            for at, block in enumerate(self.model.anatomy.blocks):
                self._prepare(stack, layer, heads, at, block)
                if at > layer and at in self._reading:
                    hooks[self.model.anatomy.attention[at]] = self._hook(at, reached)
            positions = self._at.reshape(1, -1).repeat(len(heads), 1).to(self.model.device)  # some families view them
            told = self.model.model.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "position_ids": positions}), with_kwargs=True
            )
            stack.callback(told.remove)
            stack.enter_context(only_logits_of(self.model, self.runs.vocabulary))
            reached["logits"] = forward(self.model, tokens, hooks, FIRST if self.ends else None)
        return reached

    def _prepare(self, stack: ExitStack, layer: int, heads: Tensor, at: int, block: nn.Module) -> None:
        """Set up one block of the first run as the convention requires, on rows of positions."""
        frozen = self.runs.mlps is not None
        ends_here = at == self.model.anatomy.layers - 1 and not self.ends
        found = self.trace.layers[at]
        if not frozen and layer <= at <= (self.layers if self.ends else at):
            self._hold(stack, at, self._change(layer, heads) if at == layer else None)
            if at == layer:
                rows = shareable(self.model, self._rows(found.stream), len(heads))
                stack.callback(on_input(block, lambda _: rows).remove)
        elif frozen and at > layer and at in self._reading:
            entering = self._rows(found.stream) + self._frozen_change(layer, heads)
            stack.callback(on_input(block, lambda _: entering).remove)
        else:
            leaving = self._rows(states_of(self.trace.outputs[at])).expand(len(heads), -1, -1)
            leaving = leaving + self._frozen_change(layer, heads) if frozen and ends_here else leaving
            stack.enter_context(gives(block, with_states(self.trace.outputs[at], leaving)))

    def _hold(self, stack: ExitStack, at: int, change: Tensor | None) -> None:
        """Make attention return its clean output plus the senders' change, [sender row d_model]."""
        written = self._attn_out(at) if change is None else self._attn_out(at) + change
        give, module = self.trace.layers[at].attending(written), self.model.anatomy.attention[at]
        if at in self._reading and change is None:  # attention must run, to record its queries, keys and values
            stack.callback(module.register_forward_hook(lambda _, args, __: give(*args)).remove)
        else:
            stack.enter_context(acting(module, give))

    def _hook(self, at: int, reached: Reached) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            seen = {"q": call.query, "k": call.key, "v": call.value}
            for site in self.ends:
                reached[site, at] = seen[site].transpose(1, 2)

        return look

    def _rows(self, x: Tensor) -> Tensor:
        """Select the receivers' positions: [batch position ...] -> [1 row ...]."""
        at = self._at.to(x.device)
        return x[torch.arange(len(x), device=x.device)[:, None], at].flatten(0, 1)[None]

    @torch.no_grad()
    def _attn_out(self, layer: int) -> Tensor:
        """Clean attention output, [1 row d_model]."""
        written: Tensor = self.model.anatomy.projections[layer](self._rows(self.trace.layers[layer].z).flatten(2))
        return written

    @torch.no_grad()
    def _change(self, layer: int, heads: Tensor) -> Tensor:
        """Change of the attention output by each sender, [sender row d_model]."""
        clean, corrupted = self.runs.clean["z", layer], self.runs.corrupted["z", layer]
        change = self._rows(corrupted - clean)[0][:, heads].float()  # [row sender d_head]
        change = change * self._sent.reshape(-1, 1, 1).to(change)
        w_o = self.model.anatomy.w_o(layer)[heads.to(clean.device)].float()
        return torch.einsum("rsd,sdm->srm", change, w_o).to(clean.dtype)

    @torch.no_grad()
    def _frozen_change(self, layer: int, heads: Tensor) -> Tensor:
        """Change of the residual stream by each sender: `_change` after the norm behind attention, if there is one."""
        change, norm = self._change(layer, heads), find_blocks(self.model, self.runs.tokens)[layer].norm
        if norm is None:
            return change
        clean = self._attn_out(layer)
        changed: Tensor = norm(clean + change) - norm(clean)
        return changed

    def _receive(self, layer: int, reached: Reached, copies: int) -> Tensor:
        """Second run: clean from the first receiver's layer on, except for the patched inputs of the receivers."""
        batch, anatomy = len(self.runs.tokens), self.model.anatomy
        layout, at = CopiesInBatch(batch, copies), self._at.repeat(copies, 1)
        found: dict[tuple[Site, int], Tensor] = {
            where: self._apart(x, copies).flatten(0, 1) for where, x in reached.items() if where != "logits"
        }
        edits = [
            patch(site, later, Recording(found, at), at)
            for site, heads in self.ends.items()
            if (later := [head for head in heads if head.layer > layer])
        ]
        first = min(at for at in self._reading if at > layer)
        stream = layout.join(self.trace.layers[first].stream.expand(copies, *self.trace.layers[first].stream.shape))
        with ExitStack() as stack:
            for before, block in enumerate(anatomy.blocks[:first]):
                stack.enter_context(gives(block, self.trace.outputs[before]))
            stack.callback(on_input(anatomy.blocks[first], lambda _: stream).remove)
            stack.enter_context(cut_last(self.model, self.trace.norm, self.runs.kept))
            stack.enter_context(intervene(self.model, edits))
            stack.enter_context(only_logits_of(self.model, self.runs.vocabulary))
            return layout.split(forward(self.model, self.runs.tokens.repeat(copies, 1), positions=self.runs.kept))
