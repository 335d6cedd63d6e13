"""The first run of path patching: the change of many senders at once, followed to the receivers."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from headatlas.lab.ablation.partial_rerun import shareable
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.activations.sites import Site
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.hooks.module_hooks import acting, gives, on_input, states_of, with_states
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.path_rows import PathRows
from headatlas.lab.running.forward import FIRST, forward
from headatlas.notation import Head

Ends = dict[Literal["q", "k", "v"], list[Head]]  # receivers by input; none means the logits
Reached = dict[tuple[Site, int] | Literal["logits"], Tensor]  # activations at the receivers, by site and layer


class Sender(NamedTuple):
    """A head of a layer whose z comes from a source of corruption."""

    source: int
    head: int


class FirstRun:
    """Follows senders of one layer along the residual stream and MLPs; a run holds one copy of the rows per sender."""

    def __init__(self, model: OpenModel, rows: PathRows, ends: Ends, frozen: bool) -> None:
        """
        Args:
            model: to run.
            rows: of the clean prompts.
            ends: the receivers.
            frozen: whether MLPs are frozen at their clean output.
        """
        self._model, self._rows, self._ends, self._frozen = model, rows, ends, frozen
        self._reading = sorted({head.layer for heads in ends.values() for head in heads})
        self._last = self._reading[-1] if self._reading else model.anatomy.layers - 1  # the last block that matters
        self._attn_outs: dict[int, Tensor] = {}

    def send(self, layer: int, senders: Sequence[Sender]) -> Reached:
        """Queries, keys or values of receiving heads in later layers [sender row receiver d_head], or the logits
        [sender row token].
        """
        reached: Reached = {}
        copies, clean = len(senders), self._rows.clean
        hooks: dict[nn.Module, AttentionHook] = {}
        change = self._change(layer, senders)
        with ExitStack() as stack:
            for at, block in enumerate(self._model.anatomy.blocks):
                self._prepare(stack, layer, change, at, block)
                if at > layer and at in self._reading:
                    hooks[self._model.anatomy.attention[at]] = self._hook(at, reached)
            positions = self._rows.positions.repeat(copies, 1).to(self._model.device)  # some families view them
            told = self._model.model.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "position_ids": positions}), with_kwargs=True
            )
            stack.callback(told.remove)
            logits = forward(self._model, clean.tokens.expand(copies, -1), hooks, FIRST if self._ends else None)
        return reached if self._ends else {"logits": logits.expand(copies, *logits.shape[1:])}

    def _prepare(self, stack: ExitStack, layer: int, change: Tensor, at: int, block: nn.Module) -> None:
        """Set up one block as the convention requires."""
        ends_here = at == self._model.anatomy.layers - 1 and not self._ends
        clean, copies = self._rows.clean, len(change)
        if not self._frozen and layer <= at <= self._last:
            self._hold(stack, at, change if at == layer else None)
            if at == layer:
                rows = shareable(self._model, clean.layers[at].stream, copies)
                stack.callback(on_input(block, lambda _: rows).remove)
        elif self._frozen and at > layer and at in self._reading:
            entering = clean.layers[at].stream + self._in_stream(layer, change)
            stack.callback(on_input(block, lambda _: entering).remove)
        else:
            leaving = states_of(clean.outputs[at]).expand(copies, -1, -1)
            leaving = leaving + self._in_stream(layer, change) if self._frozen and ends_here else leaving
            stack.enter_context(gives(block, with_states(clean.outputs[at], leaving)))

    def _hold(self, stack: ExitStack, at: int, change: Tensor | None) -> None:
        """Make attention return its clean output plus the senders' change, [sender row d_model]."""
        written = self._attn_out(at) if change is None else self._attn_out(at) + change
        give, module = self._rows.clean.layers[at].attending(written), self._model.anatomy.attention[at]
        if at in self._reading and change is None:  # attention must run, to record its queries, keys and values
            stack.callback(module.register_forward_hook(lambda _, args, __: give(*args)).remove)
        else:
            stack.enter_context(acting(module, give))

    def _hook(self, at: int, reached: Reached) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            seen = {"q": call.query, "k": call.key, "v": call.value}
            for site, heads in self._ends.items():
                if own := [head.head for head in heads if head.layer == at]:
                    stored = torch.tensor(own) * seen[site].shape[1] // call.query.shape[1]  # heads may share keys
                    reached[site, at] = seen[site].transpose(1, 2)[:, :, stored.to(seen[site].device)]

        return look

    @torch.no_grad()
    def _attn_out(self, layer: int) -> Tensor:
        """Clean attention output, [1 row d_model]."""
        if layer not in self._attn_outs:
            z = self._rows.clean.layers[layer].z
            self._attn_outs[layer] = self._model.anatomy.projections[layer](z.flatten(2))
        return self._attn_outs[layer]

    @torch.no_grad()
    def _change(self, layer: int, senders: Sequence[Sender]) -> Tensor:
        """Change of the attention output by each sender, [sender row d_model]."""
        sources, heads = (torch.tensor(each) for each in zip(*senders, strict=True))
        change = self._rows.changes[layer]
        change = change[sources.to(change.device), :, heads.to(change.device)]  # [sender row d_head]
        w_o = self._model.anatomy.w_o(layer)[heads.to(change.device)].float()
        return torch.einsum("srd,sdm->srm", change, w_o).to(self._model.dtype)

    @torch.no_grad()
    def _in_stream(self, layer: int, change: Tensor) -> Tensor:
        """The change of the attention output after the norm behind attention, if there is one."""
        norm = find_blocks(self._model, self._rows.clean.tokens)[layer].norm
        if norm is None:
            return change
        clean = self._attn_out(layer)
        changed: Tensor = norm(clean + change) - norm(clean)
        return changed
