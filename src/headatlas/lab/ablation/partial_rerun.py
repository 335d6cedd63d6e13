"""Runs a model from a layer onwards, and from a position onwards, for many edited copies of the same prompts at once.

An edit in layer l changes no layer before it, and an edit at position p of a causal model nothing before p. So a
clean run is kept, and a rerun computes only what is left. The model's own forward does it: the blocks before layer l
hand on what they gave in the clean run, and the positions before p are keys and values in its cache. Masks, position
encodings, windows, softcaps, sinks, norms and the unembedding are the model's own, whatever its family.

In the first layer that runs, attention is not computed again either: its output projection reads the clean z with the
edit in it. And where nothing but attention looks back in the last block,
positions whose logits nobody reads leave the stream there. A hybrid's state-space, convolution and recurrent layers
look back too, so with one of these no position is left out.

Copies lie side by side in the batch. Where the clean positions come from the cache, they lie one after the other in
the sequence instead, each blind to the others, so that all of them share one copy of the clean keys and values.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from headatlas.lab.ablation.batched_copies import CopiesInBatch, CopiesInSequence, CopyEdit, copy_edit_hook
from headatlas.lab.ablation.clean_run import CleanRun, run_clean
from headatlas.lab.ablation.kv_cache import continue_from_cache
from headatlas.lab.anatomy.families import route_of
from headatlas.lab.hooks.attention_interface import attached
from headatlas.lab.hooks.module_hooks import acting, gives, hooked, on_input, on_output
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.forward import forward


def rerun(model: OpenModel, clean: CleanRun, layer: int, copies: int, edits: Mapping[int, CopyEdit]) -> Tensor:
    """Run `copies` copies of the prompts from a layer onwards, z edited on the way.

    Args:
        model: the one that was traced.
        clean: its trace; positions before `clean.start` are taken from it.
        layer: the first block that runs, one with attention; no edit may lie before it.
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
    layout = CopiesInBatch(prompts, copies) if clean.start == 0 else CopiesInSequence(prompts, copies)
    keep = layout.places(clean.keep[later] - clean.start, width)
    with ExitStack() as stack:
        for before, block in enumerate(model.anatomy.blocks[:layer]):
            stack.enter_context(gives(block, clean.outputs[before]))
        if clean.start:
            stack.enter_context(continue_from_cache(model, clean, layer, copies))
        stack.enter_context(_entering(model, clean, layer, layout, edits.get(layer)))
        if layer < model.anatomy.layers - 1:
            stack.enter_context(cut_last(model, clean.norm, keep))
        taps = {
            model.anatomy.attention[at]: copy_edit_hook(layout, edit, clean.start)
            for at, edit in edits.items()
            if at > layer
        }
        tokens = layout.join(clean.tokens[:, clean.start :].expand(copies, -1, -1))
        logits = layout.split(forward(model, tokens, taps, keep))
    if later.all():
        return logits
    whole = clean.logits.expand(copies, *clean.logits.shape).clone()
    whole[:, :, later.to(whole.device)] = logits
    return whole


def obstacle(model: OpenModel, tokens: Tensor, keep: Tensor, start: int) -> str | None:
    """Why reruns cannot be trusted with this model, or None where they give what full runs give.

    They are tried in the very form in which they are to be used: with the same positions skipped and the same logits
    wanted, on two of the prompts. Unedited ones must give the clean logits, from every layer on the first time and from
    the first and the last in every further form; and those with a head ablated in the first and in the
    last layer what a full run gives. Other tokens run in between and the last layers are tried first, so that nothing
    left behind in the modules can pass for the skipped part.

    Args:
        model: what to try.
        tokens: [prompt position].
        keep: the positions whose logits are wanted, ascending.
        start: the first position that reruns compute.
    """
    if problem := in_force(model):
        return problem
    if start and (model.anatomy.other_mixers or model.anatomy.hybrid):
        return "something beside attention carries information from one position to another"
    form = (start > 0, len(keep) < tokens.shape[1])
    known = _tried.setdefault(model.model, {})
    key = Form(*form, tokens.shape[1], start, min(2, len(tokens)))
    if key not in known:
        known[key] = _try(model, tokens[:2], keep, start, every_layer=form not in {each[:2] for each in known})
    return known[key]


class Form(NamedTuple):
    """What a trial of reruns holds for: a single position or prompt may hide what more of them would show."""

    skips_positions: bool
    leaves_out_logits: bool
    length: int
    start: int
    prompts: int


def in_force(model: OpenModel) -> str | None:
    """Why nothing may be skipped at the moment: what is attached to a model may change what is left out."""
    anatomy = model.anatomy
    watched = (*anatomy.blocks, *anatomy.projections.values())
    if any(map(hooked, watched)) or any(map(attached, anatomy.attention.values())):
        return "edits or hooks are in force, which may change what would be skipped"
    return None


_COPIES = 3  # of two prompts: were there two, a mistake of one for the other would not show
_tried: WeakKeyDictionary[nn.Module, dict[Form, str | None]] = WeakKeyDictionary()


def _try(model: OpenModel, tokens: Tensor, keep: Tensor, start: int, every_layer: bool) -> str | None:
    tolerance = max(1e-5, 8 * torch.finfo(model.dtype).eps)
    layers = model.anatomy.attention_layers
    ends = sorted({layers[0], layers[-1]}, reverse=True)

    def attempt() -> str | None:
        clean = run_clean(model, tokens, keep, start)
        forward(model, tokens.flip(1), positions=torch.tensor([tokens.shape[1] - 1]))
        if not all(found.plain for found in clean.layers.values()):
            return "its attention gives something else than its output projections write"
        largest = clean.logits.abs().max()
        for layer in reversed(layers) if every_layer else ends:
            gap = (rerun(model, clean, layer, _COPIES, {}) - clean.logits).abs().max()
            if not gap <= tolerance * largest:
                return f"rerunning from layer {layer} does not give the clean logits (off by {gap:.1e})"
        for layer in ends:
            if not (gap := _gap_of_an_edit(model, clean, layer)) <= tolerance * largest:
                return (
                    f"rerunning with a head of layer {layer} ablated does not give what a full run gives "
                    f"(off by {gap:.1e})"
                )
        return None

    return outcome(attempt)


def outcome(attempt: Callable[[], str | None]) -> str | None:
    """What an attempt at skipping finds wrong; so is an error in it, whatever a family makes of it."""
    try:
        return attempt()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the slow way is still right
        return blocked(error)


def blocked(error: Exception) -> str:
    """What is said of a model whose blocks fail where some are skipped."""
    said = (str(error).splitlines() or [""])[0][:120]
    return f"its blocks cannot be skipped ({type(error).__name__}: {said})"


def _gap_of_an_edit(model: OpenModel, clean: CleanRun, layer: int) -> Tensor:
    """How far a rerun with the first head of a layer set to zero is from a full run."""
    prompts, length = clean.tokens.shape
    edit = CopyEdit([(1, 0)], torch.arange(clean.start, length), torch.zeros(1, 1, 1, 1))
    tap = copy_edit_hook(CopiesInBatch(prompts, 1), replace(edit, pairs=[(0, 0)]), 0)
    full = forward(model, clean.tokens, {model.anatomy.attention[layer]: tap}, clean.keep)
    return (rerun(model, clean, layer, _COPIES, {layer: edit})[1] - full).abs().max()


@contextmanager
def _entering(
    model: OpenModel, clean: CleanRun, layer: int, layout: CopiesInBatch | CopiesInSequence, edit: CopyEdit | None
) -> Iterator[None]:
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
            edit.write(attn_out, z, anatomy.projections[layer], start)
    rows = stream[:, at].reshape(1, -1, stream.shape[-1])
    rows = shareable(model, rows, layout.copies)
    written = attn_out[:, :, at].reshape(layout.copies, *rows.shape[1:])

    def apart(output: Tensor) -> Tensor:
        output = output.reshape(layout.copies, layout.prompts, -1, output.shape[-1])
        return layout.join(_spread(output, at, width))

    with ExitStack() as stack:
        stack.enter_context(acting(anatomy.attention[layer], found.attending(written)))
        stack.callback(on_input(block, lambda _: rows).remove)
        stack.callback(on_output(block, apart).remove)
        yield


@contextmanager
def cut_last(model: OpenModel, norm: nn.Module | None, keep: Tensor) -> Iterator[None]:
    """While active, only these positions of the last block's stream go on; its attention still reads all of them.

    Nothing is cut where `norm`, what that attention reads the stream through, is None.
    """
    if norm is None:
        yield
        return
    anatomy, last = model.anatomy, model.anatomy.layers - 1
    whole: list[Tensor] = []

    def narrow(stream: Tensor) -> Tensor:
        whole.append(stream)
        return stream[:, keep.to(stream.device)]

    def widen(output: Tensor) -> Tensor:
        return _spread(output, keep, whole.pop().shape[1])

    def fewer(_: nn.Module, read: tuple[Tensor, ...]) -> Tensor:
        return read[0][:, keep.to(read[0].device)]

    with ExitStack() as stack:
        stack.callback(on_input(anatomy.blocks[last], narrow).remove)
        stack.callback(on_input(anatomy.attention[last], lambda _: norm(whole[-1])).remove)
        stack.callback(anatomy.projections[last].register_forward_pre_hook(fewer).remove)
        stack.callback(on_output(anatomy.blocks[last], widen).remove)
        yield


def shareable(model: OpenModel, states: Tensor, copies: int) -> Tensor:
    """What copies of the prompts all read, [1 ...]; one for each where the model would write into it."""
    route = route_of(model.model)
    return states.repeat(copies, *[1] * (states.ndim - 1)) if route and route.writes_in_place else states


def _spread(states: Tensor, at: Tensor, width: int) -> Tensor:
    """States [... position d_model] of some positions among `width` of them; zeros elsewhere, which nobody reads.

    Some families restore the shape of their input after the last block, so positions may not just be missing.
    """
    if states.shape[-2] == width:
        return states
    whole = states.new_zeros(*states.shape[:-2], width, states.shape[-1])
    whole[..., at.to(states.device), :] = states
    return whole
