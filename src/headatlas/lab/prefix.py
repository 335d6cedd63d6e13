"""Runs a model from a layer onwards, and from a position onwards, for many edited copies of the same prompts at once.

An edit in layer l changes no layer before it, and an edit at position p of a causal model nothing before p. So a
clean run is kept, and a rerun computes only what is left. The model's own forward does it: the blocks before layer l
hand on what they gave in the clean run, and the positions before p are keys and values in its cache. Masks, position
encodings, windows, softcaps, sinks, norms and the unembedding are the model's own, whatever its family.

In the first layer that runs, attention is not computed again either: it gives what it gave in the clean run, plus what
the edit changes, (z - clean z) W_O of the edited head. And in the last block nothing but attention looks back, so
positions whose logits nobody reads leave the stream there.

Copies lie side by side in the batch. Where the clean positions come from the cache, they lie one after the other in
the sequence instead, each blind to the others, so that all of them share one copy of the clean keys and values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from headatlas.errors import HeadatlasError
from headatlas.lab.hooks import gives, on_input, on_output, states_of
from headatlas.lab.measuring import forward
from headatlas.lab.opening import OpenModel
from headatlas.lab.seam import Call, Tap
from headatlas.lab.writers import writers


@dataclass(frozen=True)
class Edit:
    """What becomes of z in one layer: in each of some copies, one head's is replaced, at the same positions of all.

    Attributes:
        pairs: which copy, and which head in it.
        at: [edited], positions counted from the beginning of the prompts.
        new: z in its place, broadcastable to [prompt position head d_head].
    """

    pairs: Sequence[tuple[int, int]]
    at: Tensor
    new: Tensor

    def put(self, z: Tensor, start: int) -> None:
        """Replace z [copy prompt position head d_head] in place, its positions counted from `start`."""
        at, new = self._chosen(z[0], start)
        for copy, head in self.pairs:
            z[copy, :, :, head][:, at] = new[:, :, head]

    def shift(self, attn_out: Tensor, z: Tensor, w_o: Tensor, start: int) -> None:
        """Change in place what attention writes, [copy prompt position d_model], as if z had been replaced.

        Args:
            attn_out: in each copy.
            z: clean, [prompt position head d_head].
            w_o: [head d_head d_model].
            start: from where positions are counted.
        """
        at, new = self._chosen(z, start)
        change = (new - z[:, at]).float()  # [prompt edited head d_head]
        for copy, head in self.pairs:
            attn_out[copy][:, at] += (change[:, :, head] @ w_o[head].float()).to(attn_out)

    def _chosen(self, z: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """The edited positions [edited], counted from `start`, and z there: [prompt edited head d_head]."""
        at = self.at.to(z.device)
        new = self.new.to(z)
        new = new[:, at] if new.shape[1] > 1 else new
        return at - start, new.expand(len(z), len(at), *z.shape[2:])


@dataclass(frozen=True)
class Passed:
    """What passed one layer in a clean run.

    Attributes:
        stream: what entered the block, [prompt position d_model].
        output: what the block gave.
        z: [prompt position head d_head].
        beside: how many things its attention module gave beside attn_out; None where that comes alone.
        attended: keys, values [prompt kv_head position d_head] and mask, where reruns skip positions.
    """

    stream: Tensor
    output: Any
    z: Tensor
    beside: int | None
    attended: tuple[Tensor, Tensor, Tensor | None] | None


@dataclass(frozen=True)
class Trace:
    """What a clean run leaves for reruns.

    Attributes:
        tokens: [prompt position].
        keep: the positions whose logits are wanted, ascending.
        start: the first position that reruns compute.
        logits: [prompt kept vocabulary].
        layers: what passed each.
        norm: what the last block's attention reads the stream through; None where that is not known.
    """

    tokens: Tensor
    keep: Tensor
    start: int
    logits: Tensor
    layers: tuple[Passed, ...]
    norm: nn.Module | None


def trace(model: OpenModel, tokens: Tensor, keep: Tensor, start: int = 0) -> Trace:
    """Run prompts [prompt position] once, keeping what reruns from `start` onwards need.

    Raises:
        HeadatlasError: where an attention module gives something else than its output projection wrote.
    """
    anatomy, norm = model.anatomy, _last_norm(model, tokens)
    seen: list[dict[str, Any]] = [{} for _ in anatomy.blocks]
    taps: dict[nn.Module, Tap] = {}
    with ExitStack() as stack:
        for layer, found in enumerate(seen):
            taps[anatomy.attention[layer]] = partial(_note_heads, found, start)
            note = partial(_note_attention, found, f"attention {layer} of {model.name}")
            stack.callback(anatomy.attention[layer].register_forward_hook(note).remove)
            stack.callback(on_output(anatomy.projections[layer], partial(found.__setitem__, "attn_out")).remove)
            stack.callback(on_input(anatomy.blocks[layer], partial(found.__setitem__, "stream")).remove)
            stack.callback(anatomy.blocks[layer].register_forward_hook(partial(_note_output, found)).remove)
        logits = forward(model, tokens, taps, keep)
    return Trace(tokens, keep, start, logits, tuple(Passed(**found) for found in seen), norm)


def _note_heads(found: dict[str, Any], start: int, call: Call, z: Tensor) -> None:
    found["z"], found["attended"] = z, (call.key, call.value, call.mask) if start else None


def _note_attention(found: dict[str, Any], name: str, _: nn.Module, args: Any, output: Any) -> None:
    if not torch.equal(states_of(output), found.pop("attn_out")):
        raise HeadatlasError(f"{name} gives something else than its output projection wrote")
    found["beside"] = len(output) - 1 if isinstance(output, tuple) else None


def _note_output(found: dict[str, Any], _: nn.Module, args: Any, output: Any) -> None:
    found["output"] = output


def rerun(model: OpenModel, clean: Trace, layer: int, copies: int, edits: Mapping[int, Edit]) -> Tensor:
    """Run `copies` copies of the prompts from a layer onwards, z edited on the way.

    Args:
        model: the one that was traced.
        clean: its trace; positions before `clean.start` are taken from it.
        layer: the first block that runs; no edit may lie before it.
        copies: how many.
        edits: by layer.

    Returns:
        Logits, [copy prompt kept vocabulary].

    Raises:
        HeadatlasError: where a layer with an edit was not reached, or logits are not finite.
    """
    if any(edited < layer for edited in edits):
        raise ValueError(f"an edit before layer {layer} would not be seen")
    prompts, length = clean.tokens.shape
    later = clean.keep >= clean.start
    if not later.any():
        return clean.logits.expand(copies, *clean.logits.shape)
    width = length - clean.start  # of one copy, in positions
    layout = _Side(prompts, copies) if clean.start == 0 else _Row(prompts, copies)
    keep = layout.places(clean.keep[later] - clean.start, width)
    with ExitStack() as stack:
        for before, block in enumerate(model.anatomy.blocks[:layer]):
            stack.enter_context(gives(block, clean.layers[before].output))
        if clean.start:
            stack.enter_context(_continuing(model, clean, layer, copies))
        stack.enter_context(_entering(model, clean, layer, layout, edits.get(layer)))
        if layer < model.anatomy.layers - 1:
            stack.enter_context(_cut(model, clean.norm, keep))
        taps = {
            model.anatomy.attention[at]: _editing(layout, edit, clean.start) for at, edit in edits.items() if at > layer
        }
        tokens = layout.join(clean.tokens[:, clean.start :].expand(copies, -1, -1))
        logits = layout.split(forward(model, tokens, taps, keep))
    if later.all():
        return logits
    whole = clean.logits.expand(copies, *clean.logits.shape).clone()
    whole[:, :, later.to(whole.device)] = logits
    return whole


def obstacle(model: OpenModel, tokens: Tensor, skip_positions: bool) -> str | None:
    """Why reruns cannot be trusted with this model, or None where they give what full runs give.

    Unedited ones must give the clean logits from every layer on, and one with a head ablated those of a full run.
    Tried once per model, on two of the prompts. Other tokens run in between and the last layers are tried first, so
    that nothing left behind in the modules can pass for the skipped part.

    Args:
        model: what to try.
        tokens: [prompt position], at least two positions where positions are to be skipped.
        skip_positions: whether to try reruns that skip positions too.
    """
    known = _tried.setdefault(model.model, {})
    if skip_positions not in known:
        known[skip_positions] = _try(model, tokens[:2], skip_positions)
    return known[skip_positions]


_tried: WeakKeyDictionary[nn.Module, dict[bool, str | None]] = WeakKeyDictionary()


def _try(model: OpenModel, tokens: Tensor, skip_positions: bool) -> str | None:
    last = tokens.shape[1] - 1
    start = max(1, last - 1) if skip_positions else 0
    tolerance = max(1e-5, 8 * torch.finfo(model.dtype).eps)
    try:
        clean = trace(model, tokens, torch.arange(start, last + 1), start)
        forward(model, tokens.flip(1), {}, torch.tensor([last]))
        for layer in reversed(range(model.anatomy.layers)):
            gap = (rerun(model, clean, layer, 2, {}) - clean.logits).abs().max()
            if not gap <= tolerance * clean.logits.abs().max():
                return f"rerunning from layer {layer} does not give the clean logits (off by {gap:.1e})"
        if not (gap := _gap_of_an_edit(model, clean)) <= tolerance * clean.logits.abs().max():
            return f"rerunning with a head ablated does not give what a full run gives (off by {gap:.1e})"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a family makes of skipped blocks, the slow way is still right
        return f"its blocks cannot be skipped ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
    return None


def _gap_of_an_edit(model: OpenModel, clean: Trace) -> Tensor:
    """How far a rerun with the first layer's first head set to zero is from a full run."""
    prompts, length = clean.tokens.shape
    edit = Edit([(1, 0)], torch.arange(clean.start, length), torch.zeros(1, 1, 1, 1))
    tap = _editing(_Side(prompts, 1), replace(edit, pairs=[(0, 0)]), 0)
    full = forward(model, clean.tokens, {model.anatomy.attention[0]: tap}, clean.keep)
    return (rerun(model, clean, 0, 2, {0: edit})[1] - full).abs().max()


@dataclass(frozen=True)
class _Side:
    """Copies side by side in the batch: [copy*prompt position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> as they lie."""
        return apart.reshape(-1, *apart.shape[2:])

    def split(self, joined: Tensor) -> Tensor:
        """As they lie -> [copy prompt position ...], a view."""
        return joined.view(self.copies, self.prompts, *joined.shape[1:])

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Where positions of each copy stand in the sequence."""
        return positions


@dataclass(frozen=True)
class _Row:
    """Copies one after the other in the sequence: [prompt copy*position ...]."""

    prompts: int
    copies: int

    def join(self, apart: Tensor) -> Tensor:
        """[copy prompt position ...] -> as they lie."""
        return apart.transpose(0, 1).flatten(1, 2).contiguous()  # GPT-2 asks for it

    def split(self, joined: Tensor) -> Tensor:
        """As they lie -> [copy prompt position ...], a view."""
        return joined.view(self.prompts, self.copies, -1, *joined.shape[2:]).transpose(0, 1)

    def places(self, positions: Tensor, width: int) -> Tensor:
        """Where positions of each copy stand in the sequence, each copy being `width` long."""
        return (positions + width * torch.arange(self.copies)[:, None]).flatten()


def _editing(layout: _Side | _Row, edit: Edit, start: int) -> Tap:
    def tap(call: Call, z: Tensor) -> Tensor:
        z = z.clone()
        edit.put(layout.split(z), start)
        return z

    return tap


@contextmanager
def _entering(model: OpenModel, clean: Trace, layer: int, layout: _Side | _Row, edit: Edit | None) -> Iterator[None]:
    """While active, a block reads the clean stream and its attention gives the clean attn_out, edited, of all copies.

    No position looks at another then. So the block is given prompts and positions as one axis, the stream without
    copies, [1 row d_model], and attn_out with them, [copy row d_model]: what depends on the stream alone is computed
    once. In the last block only the rows whose logits are wanted are there.
    """
    anatomy, start = model.anatomy, clean.start
    block, width = anatomy.blocks[layer], clean.tokens.shape[1] - start
    last = layer == anatomy.layers - 1
    at = clean.keep[clean.keep >= start] - start if last else torch.arange(width)
    found = clean.layers[layer]
    stream, z = found.stream[:, start:], found.z[:, start:]
    with torch.no_grad():
        attn_out = anatomy.projections[layer](z.flatten(2).contiguous()).expand(layout.copies, *stream.shape)
        if edit:
            attn_out = attn_out.clone()
            edit.shift(attn_out, z, anatomy.w_o(layer), start)
    rows = stream[:, at].reshape(1, -1, stream.shape[-1])
    written = attn_out[:, :, at].reshape(layout.copies, *rows.shape[1:])
    given = written if found.beside is None else (written, *[None] * found.beside)

    def apart(output: Tensor) -> Tensor:
        output = output.reshape(layout.copies, layout.prompts, -1, output.shape[-1])
        return layout.join(_spread(output, at, width))

    with ExitStack() as stack:
        stack.enter_context(gives(anatomy.attention[layer], given))
        stack.callback(on_input(block, lambda _: rows).remove)
        stack.callback(on_output(block, apart).remove)
        yield


@contextmanager
def _cut(model: OpenModel, norm: nn.Module | None, keep: Tensor) -> Iterator[None]:
    """While active, only these positions of the last block's stream go on; its attention still reads all of them."""
    anatomy = model.anatomy
    whole: list[Tensor] = []
    if norm is None:
        yield
        return

    def narrow(stream: Tensor) -> Tensor:
        whole.append(stream)
        return stream[:, keep.to(stream.device)]

    def widen(output: Tensor) -> Tensor:
        return _spread(output, keep, whole.pop().shape[1])

    with ExitStack() as stack:
        stack.callback(on_input(anatomy.blocks[-1], narrow).remove)
        stack.callback(on_input(anatomy.attention[-1], lambda _: norm(whole[-1])).remove)
        fewer = anatomy.projections[-1].register_forward_pre_hook(lambda _, read: read[0][:, keep.to(read[0].device)])
        stack.callback(fewer.remove)
        stack.callback(on_output(anatomy.blocks[-1], widen).remove)
        yield


def _spread(states: Tensor, at: Tensor, width: int) -> Tensor:
    """States [... position d_model] of some positions among `width` of them; zeros elsewhere, which nobody reads.

    Some families restore the shape of their input after the last block, so positions may not just be missing.
    """
    if states.shape[-2] == width:
        return states
    whole = states.new_zeros(*states.shape[:-2], width, states.shape[-1])
    whole[..., at.to(states.device), :] = states
    return whole


def _last_norm(model: OpenModel, tokens: Tensor) -> nn.Module | None:
    """What the last block's attention reads the stream through; None where that is not known."""
    try:
        found = writers(model, tokens[:2])[-1]
    except HeadatlasError:
        return None
    return (found.before or nn.Identity()) if found.reads_stream else None


class _Kept(DynamicLayer):  # type: ignore[misc]
    """One layer's clean keys and values: new ones are seen behind them, but not kept."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)


@contextmanager
def _continuing(model: OpenModel, clean: Trace, layer: int, copies: int) -> Iterator[None]:
    """While active, the model takes its input for copies of the positions from `clean.start`, after the clean past."""
    cache = DynamicCache()
    attended = [each.attended for each in clean.layers if each.attended]
    cache.layers = [_Kept(key[:, :, : clean.start], value[:, :, : clean.start]) for key, value, _ in attended]
    prompts, length = clean.tokens.shape
    positions = torch.arange(clean.start, length, device=model.device).repeat(copies).expand(prompts, -1)
    told = _told(past_key_values=cache, position_ids=positions)
    masks: dict[int, Tensor] = {}  # layers share them
    with ExitStack() as stack:
        stack.callback(model.model.register_forward_pre_hook(told, with_kwargs=True).remove)
        for module, (key, _, mask) in list(zip(model.anatomy.attention, attended, strict=True))[layer:]:
            if id(mask) not in masks:
                masks[id(mask)] = _mask(_causal(length, key.device) if mask is None else mask, clean.start, copies)
            told = _told(attention_mask=masks[id(mask)].to(key.device))
            stack.callback(module.register_forward_pre_hook(told, with_kwargs=True).remove)
        yield


def _told(**inputs: Any) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """A hook that gives a module these keyword arguments, whatever it was called with."""
    return lambda _module, args, kwargs: (args, {**kwargs, **inputs})


def _causal(length: int, device: torch.device) -> Tensor:
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()


def _mask(mask: Tensor, start: int, copies: int) -> Tensor:
    """The clean mask [prompt head query key], for copies in a row: [prompt head copy*position past+copy*position].

    Each copy sees the clean past and itself, as the clean mask has it, and no other copy.
    """
    length = mask.shape[2]
    rows = mask[:, :, start:, :length]  # a mask may be longer than the prompt
    width = length - start
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    own = rows.new_full((*rows.shape[:2], copies, width, copies, width), hidden)
    each = torch.arange(copies, device=mask.device)
    own[:, :, each, :, each] = rows[..., start:]  # the indexed axes come first: [copy prompt head query key]
    past = rows[..., :start].repeat(1, 1, copies, 1)
    return torch.cat([past, own.flatten(4, 5).flatten(2, 3)], -1)
