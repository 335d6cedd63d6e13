"""Reruns a model from a given layer and position on, for many edited copies of the same prompts at once.

An edit in layer l changes no earlier layer, and in a causal model an edit at position p changes no earlier position. So
a clean run is cached, and a rerun computes the rest with the model's own forward method: blocks before layer l return
their clean outputs, and positions before p are in the KV cache. Masks, position encodings, windows, softcaps, sinks,
norms and the unembedding are the model's own, for every family.

In the first rerun layer, attention is not recomputed: the output projection reads the clean z with the edit applied. In
the last block, positions whose logits are not needed are dropped, unless something other than attention moves
information between positions. A hybrid's state-space, convolution and recurrent layers do, so no position is skipped
in models that have them.

Copies are laid out along the batch axis. If earlier positions come from the cache, copies are laid out along the
sequence instead, masked from each other, so that all share one copy of the clean keys and values.

This module is long because the rerun and the checks that it equals a full run stand together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.forward import forward


def rerun_from(
    model: OpenModel, clean: CleanRun, layer: int, copies: int, edits: Mapping[int, Sequence[CopyEdit]]
) -> Tensor:
    """Rerun `copies` copies of the prompts from a layer on, with edits of z.

    Args:
        model: the model of the clean run.
        clean: its cache; positions before `clean.start` are taken from it.
        layer: the first block to run, which must have attention; no edit may lie before it.
        copies: number of copies.
        edits: by layer.

    Returns:
        Logits, [copy prompt kept vocabulary].

    Raises:
        HeadatlasError: if a layer with an edit was not reached, or logits are not finite.
    """
    if any(edited < layer for edited in edits):
        raise ValueError(f"an edit lies before layer {layer}, where the rerun starts; start at the first edited layer")
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
            stack.enter_context(continue_from_cache(model, clean, layer, layout))
        stack.enter_context(_entering(model, clean, layer, layout, edits.get(layer, ())))
        if layer < model.anatomy.layers - 1:
            stack.enter_context(cut_last(model, clean.norm, keep))
        hooks = {
            model.anatomy.attention[at]: copy_edit_hook(layout, each, clean.start)
            for at, each in edits.items()
            if at > layer
        }
        tokens = layout.join(clean.tokens[:, clean.start :].expand(copies, -1, -1))
        logits = layout.split(forward(model, tokens, hooks, keep))
    if later.all():
        return logits
    whole = clean.logits.expand(copies, *clean.logits.shape).clone()
    whole[:, :, later.to(whole.device)] = logits
    return whole


def why_not_partial(model: OpenModel, clean: CleanRun) -> str | None:
    """Why reruns cannot be trusted with this model, or None if they reproduce full runs.

    The trial uses two of the prompts, with the same skipped positions and kept logits as the real reruns. Unedited
    reruns must give the clean logits: from the first and last layer, and in the first trial of a form from every layer,
    on a few of the tokens. Reruns with one head ablated in the first and last layer must match full runs. Other tokens
    run in between, and the last layers are tried first, so that state left in the modules cannot hide a failure.

    Once a form has passed, other lengths of it cost no full run: an unedited rerun from the first layer must give the
    clean logits that are known already.

    Args:
        model: to try.
        clean: the clean run that will be rerun.
    """
    if problem := active_hooks(model):
        return problem
    if clean.start and (model.anatomy.other_mixers or model.anatomy.hybrid):
        return "something besides attention moves information between positions"
    (prompts, length), start = clean.tokens.shape, clean.start
    form = RerunForm(start > 0, len(clean.keep) < length, min(2, prompts), min(2, length - start))
    known = _tried.setdefault(model.model, {})
    if (form, length, start) not in known:
        passed = any(each == form and problem is None for (each, *_), problem in known.items())
        every_layer = form[:2] not in {each[:2] for each, *_ in known}
        known[form, length, start] = (
            failure_of(lambda: unedited_problem(model, clean.first(2)))
            if passed
            else _try(model, clean.tokens[:2], clean.keep, start, every_layer)
        )
    return known[form, length, start]


class RerunForm(NamedTuple):
    """The conditions a trial is valid for; a single prompt or position can hide errors that more would show."""

    skips_positions: bool
    leaves_out_logits: bool
    prompts: int
    positions: int


def active_hooks(model: OpenModel) -> str | None:
    """Why nothing may be skipped now (hooks could change the skipped part), or None if the model has no hooks."""
    anatomy = model.anatomy
    watched = (*anatomy.blocks, *anatomy.projections.values())
    if any(map(hooked, watched)) or any(map(attached, anatomy.attention.values())):
        return "edits or hooks are in force, which may change what would be skipped"
    return None


_FEW = 4  # tokens before and after the first position of a shortened trial
_COPIES = 3  # with only two, swapping the copies could go unnoticed
_tried: WeakKeyDictionary[nn.Module, dict[tuple[RerunForm, int, int], str | None]] = WeakKeyDictionary()


def _try(model: OpenModel, tokens: Tensor, keep: Tensor, start: int, every_layer: bool) -> str | None:
    layers = model.anatomy.attention_layers
    ends = sorted({layers[0], layers[-1]}, reverse=True)

    def attempt() -> str | None:
        clean = run_clean(model, tokens, keep, start)
        forward(model, tokens.flip(1), positions=torch.tensor([tokens.shape[1] - 1]))
        if not all(found.plain for found in clean.layers.values()):
            return "its attention output is not the output of its output projection"
        for layer in ends:
            if problem := unedited_problem(model, clean, layer):
                return problem
        if every_layer:
            short = run_clean(model, *_shortened(tokens, keep, start))
            for layer in reversed(layers):
                if problem := unedited_problem(model, short, layer):
                    return problem
        for layer in ends:
            if not (gap := _gap_of_an_edit(model, clean, layer)) <= _tolerance(model, clean.logits):
                return f"rerunning with a head of layer {layer} ablated does not match a full run (off by {gap:.1e})"
        return None

    return failure_of(attempt)


def _shortened(tokens: Tensor, keep: Tensor, start: int) -> tuple[Tensor, Tensor, int]:
    """A few of the tokens, with the same form: positions are skipped, and logits left out, if they are in the whole."""
    length, first, width = tokens.shape[1], min(start, _FEW), min(tokens.shape[1] - start, _FEW)
    few = torch.cat([tokens[:, :first], tokens[:, start : start + width]], 1)
    whole = len(keep) == length
    return few, torch.arange(few.shape[1]) if whole else torch.tensor([few.shape[1] - 1]), first


def within_rounding(model: OpenModel, found: Tensor, expected: Tensor) -> bool:
    """Whether logits are the expected ones up to rounding; logits that are not numbers never are."""
    return bool((found - expected).abs().max() <= _tolerance(model, expected))


def _tolerance(model: OpenModel, logits: Tensor) -> Tensor:
    """The largest difference between logits that counts as rounding."""
    return max(1e-5, 8 * torch.finfo(model.dtype).eps) * logits.abs().max()


def unedited_problem(model: OpenModel, clean: CleanRun, layer: int | None = None) -> str | None:
    """What an unedited rerun from a layer, by default the first, gives that is not the clean logits, or None."""
    layer = model.anatomy.attention_layers[0] if layer is None else layer
    gap = (rerun_from(model, clean, layer, _COPIES, {}) - clean.logits).abs().max()
    if gap <= _tolerance(model, clean.logits):
        return None
    return f"rerunning from layer {layer} does not give the clean logits (off by {gap:.1e})"


def failure_of(attempt: Callable[[], str | None]) -> str | None:
    """What a trial of skipping found wrong, or None; an exception in it counts as a failure."""
    try:
        return attempt()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # full runs remain as the fallback
        return failure_message(error)


def failure_message(error: Exception) -> str:
    """The message for a model whose blocks fail if some are skipped."""
    said = (str(error).splitlines() or [""])[0][:120]
    return f"its blocks cannot be skipped ({type(error).__name__}: {said})"


def _gap_of_an_edit(model: OpenModel, clean: CleanRun, layer: int) -> Tensor:
    """Gap between a rerun and a full run, with the first head of a layer zero-ablated."""
    prompts, length = clean.tokens.shape
    edit = CopyEdit([(1, 0)], torch.arange(clean.start, length), torch.zeros(1, 1, 1, 1))
    hook = copy_edit_hook(CopiesInBatch(prompts, 1), [replace(edit, pairs=[(0, 0)])], 0)
    full = forward(model, clean.tokens, {model.anatomy.attention[layer]: hook}, clean.keep)
    return (rerun_from(model, clean, layer, _COPIES, {layer: [edit]})[1] - full).abs().max()


@contextmanager
def _entering(
    model: OpenModel,
    clean: CleanRun,
    layer: int,
    layout: CopiesInBatch | CopiesInSequence,
    edits: Sequence[CopyEdit],
) -> Iterator[None]:
    """While active, give a block the clean stream, and its attention the edited attn_out of all copies as output.

    No position then attends to another, so the block gets prompts and positions as one axis. The stream is shared by
    the copies, [1 row d_model], and attn_out is per copy, [copy row d_model]; whatever depends on the stream alone is
    computed once. In the last block, only rows whose logits are needed are included.
    """
    anatomy, start = model.anatomy, clean.start
    block, width = anatomy.blocks[layer], clean.tokens.shape[1] - start
    last = layer == anatomy.layers - 1
    at = clean.keep[clean.keep >= start] - start if last else torch.arange(width)
    found = clean.layers[layer]
    stream, z = found.stream[:, start - clean.origin :], found.z[:, start - clean.origin :]
    with torch.no_grad():
        attn_out = anatomy.projections[layer](z.flatten(2).contiguous()).expand(layout.copies, *stream.shape)
        if edits:
            attn_out = attn_out.clone()
        for edit in edits:
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
    """While active, drop all positions but `keep` from the last block's stream; its attention still reads all of them.

    `norm` is the norm before that attention; nothing is dropped if it is None.
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
    """States shared by all copies [1 ...], or one per copy if the model writes to them in place."""
    route = route_of(model.model)
    return states.repeat(copies, *[1] * (states.ndim - 1)) if route and route.writes_in_place else states


def _spread(states: Tensor, at: Tensor, width: int) -> Tensor:
    """Put states [... position d_model] of some positions into a sequence of `width`; the rest is zero and unused.

    Positions cannot simply be left out, as some families restore the input's shape after the last block.
    """
    if states.shape[-2] == width:
        return states
    whole = states.new_zeros(*states.shape[:-2], width, states.shape[-1])
    whole[..., at.to(states.device), :] = states
    return whole
