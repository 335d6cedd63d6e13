"""The second run of path patching: the model with the receivers' queries, keys or values patched, many copies at once.

It starts at the first receiver's layer, and at the first patched position if the keys and values before it are kept.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from headatlas.lab.ablation.batched_copies import CopiesInBatch, CopiesInSequence, copies_per_run
from headatlas.lab.ablation.clean_run import CleanRun
from headatlas.lab.ablation.kv_cache import continue_from_cache
from headatlas.lab.ablation.partial_rerun import cut_last
from headatlas.lab.ablation.sweep_engine import IN_A_ROW
from headatlas.lab.activations.sites import Site
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionPreHook, attention_pre_hooks
from headatlas.lab.hooks.module_hooks import gives, on_input, states_of, with_states
from headatlas.lab.paths.clean_and_corrupted import PathRuns
from headatlas.lab.paths.first_run import Ends
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward

Given = Mapping[tuple[Site, int], Tensor]  # by site and layer: [copy batch reached receiver d_head]
_FIELDS: dict[Site, str] = {"q": "query", "k": "key", "v": "value"}


def first_position(at: Tensor, length: int) -> int:
    """Where the second run may start, given the patched positions [batch reached]: 0 if skipping would not pay."""
    first = int(at.min())
    return first if 2 * (length - first) <= length else 0


class SecondRun:
    """Runs one batch of clean prompts with the receivers patched."""

    def __init__(self, runs: PathRuns, ends: Ends, at: Tensor, start: int) -> None:
        """
        Args:
            runs: of the batch.
            ends: the receivers.
            at: [batch reached], where they are patched.
            start: the first position to compute.
        """
        self._model, self._vocabulary, self._ends, self._at = runs.model, runs.vocabulary, ends, at
        self.clean = _slim(replace(runs.trace, start=start), {head.layer for heads in ends.values() for head in heads})

    def copies(self, memory: int | None) -> int:
        """Number of copies that fit into one run."""
        (batch, length), start = self.clean.tokens.shape, self.clean.start
        most = copies_per_run(self._model, batch, length, length - start, self.clean.logits[0].numel(), memory)
        return max(1, min(most, IN_A_ROW // (length - start))) if start else most

    def unpatched(self, first: int, copies: int) -> Tensor:
        """The logits of copies that nothing is patched in: those of the clean run, if blocks may be skipped."""
        return self._run(first, {}, copies)

    def logits(self, first: int, given: Given) -> Tensor:
        """The kept logits with the receivers from a layer on patched, [copy batch kept vocabulary].

        Args:
            first: the first layer with a receiver that is patched.
            given: what each receiver gets.
        """
        return self._run(first, given, len(next(iter(given.values()))))

    def _run(self, first: int, given: Given, copies: int) -> Tensor:
        model, clean = self._model, self.clean
        (prompts, length), start = clean.tokens.shape, clean.start
        later = clean.keep >= start
        if not later.any():
            return clean.logits.expand(copies, *clean.logits.shape)
        layout = CopiesInBatch(prompts, copies) if start == 0 else CopiesInSequence(prompts, copies)
        keep = layout.places(clean.keep[later] - start, length - start)
        entering = clean.layers[first].stream[:, start:]
        stream = layout.join(entering.expand(copies, *entering.shape))
        hooks = {
            model.anatomy.attention[at]: self._patch(layout, at, given) for at in {at for _, at in given if at >= first}
        }
        with ExitStack() as stack:
            for before, block in enumerate(model.anatomy.blocks[:first]):
                stack.enter_context(gives(block, clean.outputs[before]))
            if start:
                stack.enter_context(continue_from_cache(model, clean, first, layout))
            stack.callback(on_input(model.anatomy.blocks[first], lambda _: stream).remove)
            stack.enter_context(cut_last(model, clean.norm, keep))
            stack.enter_context(attention_pre_hooks(hooks))
            stack.enter_context(only_logits_of(model, self._vocabulary))
            tokens = layout.join(clean.tokens[:, start:].expand(copies, -1, -1))
            logits = layout.split(forward(model, tokens, positions=keep))
        if later.all():
            return logits
        whole = clean.logits.expand(copies, *clean.logits.shape).clone()
        whole[:, :, later.to(whole.device)] = logits
        return whole

    def _patch(self, layout: CopiesInBatch | CopiesInSequence, layer: int, given: Given) -> AttentionPreHook:
        """Give the receivers of a layer their patched inputs."""
        of_layer = {
            site: (torch.tensor([head.head for head in heads if head.layer == layer]), given[site, layer])
            for site, heads in self._ends.items()
            if (site, layer) in given
        }

        def pre_hook(call: AttentionCall) -> AttentionCall:
            seen = {"q": call.query, "k": call.key, "v": call.value}
            if of_layer.keys() & {"k", "v"}:
                groups = call.query.shape[1] // call.key.shape[1]  # one key and value per head: receivers alone change
                seen |= {site: seen[site].repeat_interleave(groups, dim=1) for site in ("k", "v")}
            for site, (heads, new) in of_layer.items():
                seen[site] = self._put(layout, seen[site], heads, new)
            return replace(call, query=seen["q"], key=seen["k"], value=seen["v"])

        return pre_hook

    def _put(self, layout: CopiesInBatch | CopiesInSequence, x: Tensor, heads: Tensor, new: Tensor) -> Tensor:
        """Put new [copy batch reached receiver d_head] into x, which holds positions of all copies on axis 2."""
        x, width = x.clone(), self.clean.tokens.shape[1] - self.clean.start
        mine = width * (layout.copies if isinstance(layout, CopiesInSequence) else 1)  # behind the kept keys, if any
        copies = layout.split(x[:, :, x.shape[2] - mine :].transpose(1, 2))  # [copy batch position head d_head]
        prompts = torch.arange(len(self._at), device=x.device)[:, None, None]
        at = (self._at - self.clean.start).to(x.device)[:, :, None]
        copies[:, prompts, at, heads.to(x.device)] = new.to(x)
        return x


def _slim(clean: CleanRun, reading: set[int]) -> CleanRun:
    """A clean run without what second runs do not read, as those of many batches are held at once."""
    layers = {}
    for layer, each in clean.layers.items():
        stream = each.stream if layer in reading else each.stream[:0]
        attended = each.attended if clean.start else None
        layers[layer] = replace(each, stream=stream, z=each.z[:0], attended=attended)
    states = states_of(clean.outputs[0])  # of a block that is skipped; nothing reads them
    return replace(clean, layers=layers, outputs=tuple(with_states(each, states) for each in clean.outputs))
