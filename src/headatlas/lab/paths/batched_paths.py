"""From many senders at once to the receivers of a path: the two runs of path patching, as short as they can be."""

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

Reached = dict[tuple[Site, int] | Literal["logits"], Tensor]  # by site and layer of the receivers


class BatchedPathPatching:
    """From heads of one layer to the receivers: runs that hold as many copies of the prompts as there are senders."""

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
        self._at = at  # [batch reached], where receivers read
        sending = located(sender_positions, batch, length)  # [batch sent]
        self._sent = (at[:, :, None] == sending[:, None, :]).any(-1)  # [batch reached]

    @property
    def width(self) -> int:
        """At how many positions of each prompt receivers read."""
        return self._at.shape[1]

    def in_full(self, layer: int, head: int) -> Tensor:
        """The same for one head, each run in full: [batch kept vocabulary]."""
        return patched_logits(self.runs, [Head(layer, head)], self.receivers, *self._where)

    def copies(self, memory: int | None) -> int:
        """How many senders one run may hold."""
        batch, length = self.runs.tokens.shape
        width = length if self.ends else self.width
        return copies_per_run(self.model, batch, length, width, self.runs.logits[0].numel(), memory)

    def logits(self, layer: int, heads: Tensor) -> Tensor:
        """The kept logits with the path from each of these heads patched, [sender batch kept vocabulary]."""
        reached = self._send(layer, heads)
        return self._receive(layer, reached, len(heads)) if self.ends else self._apart(reached["logits"], len(heads))

    def _apart(self, rows: Tensor, copies: int) -> Tensor:
        """[sender row ...] -> [sender batch position ...]"""
        return rows.expand(copies, *rows.shape[1:]).reshape(copies, *self._at.shape, *rows.shape[2:])

    def _send(self, layer: int, heads: Tensor) -> Reached:
        """What reaches the receivers: queries, keys or values [sender row head d_head], or logits [sender row token].

        A row is a position of a prompt: [batch reached] as one axis.
        """
        reached: Reached = {}
        tokens = self._rows(self.runs.tokens).expand(len(heads), -1)
        taps: dict[nn.Module, AttentionHook] = {}
        with ExitStack() as stack:
            for at, block in enumerate(self.model.anatomy.blocks):
                self._prepare(stack, layer, heads, at, block)
                if at > layer and at in self._reading:
                    taps[self.model.anatomy.attention[at]] = self._tap(at, reached)
            positions = self._at.reshape(1, -1).repeat(len(heads), 1).to(self.model.device)  # some families view them
            told = self.model.model.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "position_ids": positions}), with_kwargs=True
            )
            stack.callback(told.remove)
            stack.enter_context(only_logits_of(self.model, self.runs.vocabulary))
            reached["logits"] = forward(self.model, tokens, taps, FIRST if self.ends else None)
        return reached

    def _prepare(self, stack: ExitStack, layer: int, heads: Tensor, at: int, block: nn.Module) -> None:
        """Let one block of the first run do what the convention has it do, on rows of positions."""
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
        """Have attention give what its clean heads write, and what the senders change: [sender row d_model]."""
        written = self._attn_out(at) if change is None else self._attn_out(at) + change
        give, module = self.trace.layers[at].attending(written), self.model.anatomy.attention[at]
        if at in self._reading and change is None:  # it has to run, so that its queries, keys and values are seen
            stack.callback(module.register_forward_hook(lambda _, args, __: give(*args)).remove)
        else:
            stack.enter_context(acting(module, give))

    def _tap(self, at: int, reached: Reached) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            seen = {"q": call.query, "k": call.key, "v": call.value}
            for site in self.ends:
                reached[site, at] = seen[site].transpose(1, 2)

        return look

    def _rows(self, x: Tensor) -> Tensor:
        """[batch position ...] -> [1 row ...], of the positions where receivers read."""
        at = self._at.to(x.device)
        return x[torch.arange(len(x), device=x.device)[:, None], at].flatten(0, 1)[None]

    @torch.no_grad()
    def _attn_out(self, layer: int) -> Tensor:
        """What attention wrote in the clean run, [1 row d_model]."""
        written: Tensor = self.model.anatomy.projections[layer](self._rows(self.trace.layers[layer].z).flatten(2))
        return written

    @torch.no_grad()
    def _change(self, layer: int, heads: Tensor) -> Tensor:
        """What each sender changes in what attention writes, [sender row d_model]."""
        clean, corrupted = self.runs.clean["z", layer], self.runs.corrupted["z", layer]
        change = self._rows(corrupted - clean)[0][:, heads].float()  # [row sender d_head]
        change = change * self._sent.reshape(-1, 1, 1).to(change)
        w_o = self.model.anatomy.w_o(layer)[heads.to(clean.device)].float()
        return torch.einsum("rsd,sdm->srm", change, w_o).to(clean.dtype)

    @torch.no_grad()
    def _frozen_change(self, layer: int, heads: Tensor) -> Tensor:
        """The same after the norm that follows attention, where there is one: what later layers find in the stream."""
        change, norm = self._change(layer, heads), find_blocks(self.model, self.runs.tokens)[layer].norm
        if norm is None:
            return change
        clean = self._attn_out(layer)
        changed: Tensor = norm(clean + change) - norm(clean)
        return changed

    def _receive(self, layer: int, reached: Reached, copies: int) -> Tensor:
        """The second run: clean from the first receiver's layer on, but for what has reached the receivers."""
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
