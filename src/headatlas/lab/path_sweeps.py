"""Path patching of every head: what each one alone does along its paths, many senders in one run.

The convention is that of `path_patch`, and so are the numbers. With z of all heads held, no position looks at another:
what a sender changes at a position travels through the norms and MLPs of that position alone. So the first run is
begun in the sender's layer, with (corrupted z - clean z) W_O added to what attention wrote, and computes only the
positions where receivers read; with frozen MLPs it needs no layer at all. The second run, where the receivers are
heads, begins at the first of them.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.copies import Side, fitting, short_of_memory
from headatlas.lab.edits import patch
from headatlas.lab.hooks import gives, on_input, states_of, with_states
from headatlas.lab.interventions import intervene
from headatlas.lab.measuring import forward
from headatlas.lab.paths import Metric, PathRuns, Receiver, by_input, patched_logits
from headatlas.lab.prefix import cut_last, in_force
from headatlas.lab.seam import Call, Tap
from headatlas.lab.sites import Positions, Recording, Site, located
from headatlas.lab.unembedding import only_logits_of
from headatlas.lab.writers import writers
from headatlas.notation import Head

_known: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PathSweep:
    """What the path from each head to the receivers changes in a metric.

    Attributes:
        effect: [layer head batch], the metric with that head's path patched, minus the clean metric.
        notes: what was not as usual, in words.
    """

    effect: Tensor
    notes: tuple[str, ...] = ()


def path_sweep(
    runs: PathRuns,
    receivers: Iterable[Receiver] | Literal["logits"],
    metric: Metric,
    sender_positions: Positions = None,
    receiver_positions: Positions = None,
    memory: int | None = None,
) -> PathSweep:
    """Patch the path from every head to the receivers, each head alone.

    Args:
        runs: of `path_runs`. Prompts of another length need runs of their own.
        receivers: inputs of heads, patched together, or "logits".
        metric: read from the kept logits.
        sender_positions: where the senders are patched; everywhere by default.
        receiver_positions: where the receivers' queries, keys or values are; everywhere by default.
        memory: bytes that the activations of one run may take; by default as in `sweep`.

    Raises:
        HeadatlasError: for positions that the prompts do not have, or where memory is short for a single head.
        ValueError: for no receivers, or heads the model does not have.
    """
    ends = receivers if receivers == "logits" else tuple(receivers)
    reach = _Reach(runs, ends, sender_positions, receiver_positions)
    problem = _obstacle(reach)
    notes = [] if problem is None else [f"every path of {runs.model.name} ran in full: {problem}"]
    clean, anatomy = metric(runs.logits), runs.model.anatomy
    effect = clean.new_zeros(anatomy.layers, anatomy.heads, len(clean))  # zero where no path leads to the receivers
    most = reach.copies(memory) if problem is None else 1
    for layer in range(reach.layers):
        waiting = list(torch.split(torch.arange(anatomy.heads), most))
        while waiting:
            heads = waiting.pop(0)
            try:
                found = reach.logits(layer, heads) if problem is None else reach.in_full(layer, int(heads))[None]
            except RuntimeError as error:
                most = max(1, len(heads) // 2)
                waiting[:0] = torch.split(heads, most)
                notes.append(_fewer(error, heads, len(clean)))
                continue
            effect[layer, heads] = torch.stack([metric(each) for each in found]) - clean
    return PathSweep(effect, tuple(dict.fromkeys(notes)))


def _fewer(error: RuntimeError, heads: Tensor, prompts: int) -> str:
    """What to say where memory is short for several heads at once; raises where it is short for one."""
    if not short_of_memory(error):
        raise error
    if len(heads) == 1:
        raise HeadatlasError(
            f"not enough memory for the paths of one head on {prompts} prompts; give path_runs fewer at once"
        ) from None
    return f"not enough memory for {len(heads)} heads at once; they ran in halves"


class _Reach:
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
        layers, width = self.model.anatomy.layers, self.model.anatomy.heads
        for head in (head for heads in self.ends.values() for head in heads):
            if not (head.layer < layers and head.head < width):
                raise ValueError(f"{head} is not in a model of {layers} layers x {width} heads")
        self._reading = sorted({head.layer for heads in self.ends.values() for head in heads})
        self.layers = self._reading[-1] if self._reading else layers  # senders come before
        at = runs.kept.expand(batch, -1) if receivers == "logits" else located(receiver_positions, batch, length)
        self._at = at  # [batch reached], where receivers read
        sending = located(sender_positions, batch, length)  # [batch sent]
        self._sent = (at[:, :, None] == sending[:, None, :]).any(-1)  # [batch reached]

    def in_full(self, layer: int, head: int) -> Tensor:
        """The same for one head, each run in full: [batch kept vocabulary]."""
        return patched_logits(self.runs, [Head(layer, head)], self.receivers, *self._where)

    def copies(self, memory: int | None) -> int:
        """How many senders one run may hold."""
        batch, length = self.runs.tokens.shape
        width = length if self.ends else self._at.shape[1]
        return fitting(self.model, batch, length, width, self.runs.logits[0].numel(), memory)

    def logits(self, layer: int, heads: Tensor) -> Tensor:
        """The kept logits with the path from each of these heads patched, [sender batch kept vocabulary]."""
        reached = self._send(layer, heads)
        return self._receive(layer, reached, len(heads)) if self.ends else self._apart(reached["logits"], len(heads))

    def _apart(self, rows: Tensor, copies: int) -> Tensor:
        """[sender row ...] -> [sender batch position ...]"""
        return rows.expand(copies, *rows.shape[1:]).reshape(copies, *self._at.shape, *rows.shape[2:])

    def _send(self, layer: int, heads: Tensor) -> dict[tuple[Site, int] | Literal["logits"], Tensor]:
        """What reaches the receivers: queries, keys or values [sender row head d_head], or logits [sender row token].

        A row is a position of a prompt: [batch reached] as one axis.
        """
        reached: dict[tuple[Site, int] | Literal["logits"], Tensor] = {}
        tokens = self._rows(self.runs.tokens).expand(len(heads), -1)
        taps: dict[nn.Module, Tap] = {}
        with ExitStack() as stack:
            for at, block in enumerate(self.model.anatomy.blocks):
                self._prepare(stack, layer, heads, at, block)
                if at > layer and at in self._reading:
                    taps[self.model.anatomy.attention[at]] = self._tap(at, reached)
            positions = self._at.reshape(1, -1).expand(len(heads), -1).to(self.model.device)
            told = self.model.model.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "position_ids": positions}), with_kwargs=True
            )
            stack.callback(told.remove)
            stack.enter_context(only_logits_of(self.model, self.runs.vocabulary))
            reached["logits"] = forward(self.model, tokens, taps, torch.tensor([0]) if self.ends else None)
        return reached

    def _prepare(self, stack: ExitStack, layer: int, heads: Tensor, at: int, block: nn.Module) -> None:
        """Let one block of the first run do what the convention has it do, on rows of positions."""
        frozen = self.runs.mlps is not None
        ends_here = at == self.model.anatomy.layers - 1 and not self.ends
        found = self.trace.layers[at]
        if not frozen and layer <= at <= (self.layers if self.ends else at):
            self._hold(stack, at, self._change(layer, heads) if at == layer else None)
            if at == layer:
                stack.callback(on_input(block, lambda _: self._rows(found.stream)).remove)
        elif frozen and at > layer and at in self._reading:
            entering = self._rows(found.stream) + self._frozen_change(layer, heads)
            stack.callback(on_input(block, lambda _: entering).remove)
        else:
            leaving = self._rows(states_of(found.output)).expand(len(heads), -1, -1)
            leaving = leaving + self._frozen_change(layer, heads) if frozen and ends_here else leaving
            stack.enter_context(gives(block, with_states(found.output, leaving)))

    def _hold(self, stack: ExitStack, at: int, change: Tensor | None) -> None:
        """Have attention give what its clean heads write, and what the senders change: [sender row d_model]."""
        written = self._attn_out(at) if change is None else self._attn_out(at) + change
        given, module = self.trace.layers[at].attention_gives(written), self.model.anatomy.attention[at]
        if at in self._reading and change is None:  # it has to run, so that its queries, keys and values are seen
            stack.callback(module.register_forward_hook(lambda *_: given).remove)
        else:
            stack.enter_context(gives(module, given))

    def _tap(self, at: int, reached: dict[tuple[Site, int] | Literal["logits"], Tensor]) -> Tap:
        def look(call: Call, z: Tensor) -> None:
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
        change, norm = self._change(layer, heads), writers(self.model, self.runs.tokens)[layer].norm
        if norm is None:
            return change
        clean = self._attn_out(layer)
        changed: Tensor = norm(clean + change) - norm(clean)
        return changed

    def _receive(self, layer: int, reached: dict[tuple[Site, int] | Literal["logits"], Tensor], copies: int) -> Tensor:
        """The second run: clean from the first receiver's layer on, but for what has reached the receivers."""
        batch, anatomy = len(self.runs.tokens), self.model.anatomy
        layout, at = Side(batch, copies), self._at.repeat(copies, 1)
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
                stack.enter_context(gives(block, self.trace.layers[before].output))
            stack.callback(on_input(anatomy.blocks[first], lambda _: stream).remove)
            stack.enter_context(cut_last(self.model, self.trace.norm, self.runs.kept))
            stack.enter_context(intervene(self.model, edits))
            stack.enter_context(only_logits_of(self.model, self.runs.vocabulary))
            return layout.split(forward(self.model, self.runs.tokens.repeat(copies, 1), {}, self.runs.kept))


def _obstacle(reach: _Reach) -> str | None:
    """Why a model's paths cannot be swept, or None where two senders get what `path_patch` gives; tried once."""
    runs = reach.runs
    if problem := in_force(runs.model):
        return problem
    kind = f"{'heads' if reach.ends else 'logits'}, MLPs {'recomputed' if runs.mlps is None else 'frozen'}"
    known = _known.setdefault(runs.model.model, {})
    if kind not in known and reach.layers:
        known[kind] = _try(reach, sorted({0, reach.layers - 1}))
    return known.get(kind)


def _try(reach: _Reach, layers: list[int]) -> str | None:
    full = {layer: reach.in_full(layer, 0) for layer in layers}
    tolerance = max(1e-5, 8 * torch.finfo(reach.model.dtype).eps) * reach.runs.logits.abs().max()
    if not all(found.plain for found in reach.trace.layers):
        return "its attention gives something else than its output projections write"
    try:
        for layer in layers:
            gap = (reach.logits(layer, torch.tensor([0]))[0] - full[layer]).abs().max()
            if not gap <= tolerance:
                return f"a sender in layer {layer} does not give what path_patch gives (off by {gap:.1e})"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family makes of skipped blocks, the slow way is still right
        return f"its blocks cannot be skipped ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
    return None
