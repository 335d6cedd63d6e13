"""Runs a model with a list of edits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.attention_edits import LayerEdit, PatternEdits
from headatlas.lab.activations.edits import Edit
from headatlas.lab.activations.sites import STREAM_SITES
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.hooks.attention_interface import (
    AttentionCall,
    AttentionPreHook,
    attention_hooks,
    attention_pre_hooks,
)
from headatlas.lab.hooks.module_hooks import on_input, on_output
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.notation import Head


@contextmanager
def intervene(model: OpenModel, edits: Sequence[Edit]) -> Iterator[None]:
    """While active, apply `edits` in every forward pass; the model is restored on exit, also after an error.

    Edits act in order of computation, and within a site in list order. Nested contexts are allowed: at each site the
    outer one acts first.

    Args:
        model: to intervene on.
        edits: made by `zero`, `mean`, `position_mean`, `resample`, `patch`, `scale`, `add`, `project_out`, `knockout`.

    Raises:
        ValueError: for a head or layer the model lacks.
        HeadatlasError: on exit, if an edit was never applied; inside, if an edit does not fit the prompts.
    """
    waiting: set[tuple[int, int]] = set()
    by_layer: dict[int, list[LayerEdit]] = {}
    for number, edit in enumerate(edits):
        _require_places(model.anatomy, edit)
        for layer in edit.heads:
            waiting.add((number, layer))
            total = 1 if edit.site in STREAM_SITES else model.anatomy.heads_in(layer)
            note = _noting(waiting, (number, layer))
            by_layer.setdefault(layer, []).append(LayerEdit(edit, layer, total, note))
    with ExitStack() as stack:
        if any(edit.aligned for edit in edits):
            stack.callback(model.model.register_forward_pre_hook(_refuse_cache, with_kwargs=True).remove)
        for layer, chosen in by_layer.items():
            _attach(stack, model.anatomy, layer, chosen)
        yield
    if waiting:
        number, layer = min(waiting)
        raise HeadatlasError(
            f"the edit {edits[number]} never took place in layer {layer}; run the model inside the intervention"
        )


def _require_places(anatomy: Anatomy, edit: Edit) -> None:
    for layer, heads in edit.heads.items():
        if edit.site in STREAM_SITES:
            require_site(anatomy, edit.site, layer)
        else:
            anatomy.require(Head(layer, head) for head in heads)


def require_site(anatomy: Anatomy, site: str, layer: int) -> None:
    """Check that a layer has a site. For resid, `layers` is allowed too: the stream after the last block.

    Raises:
        ValueError: if it does not.
        HeadatlasError: for the residual stream of a model whose blocks carry several streams.
    """
    if not 0 <= layer < anatomy.layers + (site == "resid"):
        raise ValueError(f"{site} of layer {layer} is not in a model of {anatomy.layers} layers")
    if site != "resid":
        anatomy.require_attention(layer)
    elif not anatomy.one_stream:
        raise HeadatlasError(several_streams(anatomy))


def several_streams(anatomy: Anatomy) -> str:
    """The error message for a model that has several streams instead of one residual stream."""
    return (
        f"the blocks of this model (family {anatomy.family}) carry several streams at once, so it has no residual "
        "stream to read or to edit; use the sites pattern, z, result or attn_out instead"
    )


def _noting(waiting: set[tuple[int, int]], which: tuple[int, int]) -> Callable[[], None]:
    return lambda: waiting.discard(which)


def _refuse_cache(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    past = kwargs.get("past_key_values")
    if past is not None and past.get_seq_length() > 0:
        raise HeadatlasError(
            "edits that depend on positions count them over the whole prompt, but a filled key/value cache leaves out "
            "its beginning; run the whole prompt with use_cache=False"
        )


def _attach(stack: ExitStack, anatomy: Anatomy, layer: int, edits: list[LayerEdit]) -> None:
    at: dict[str, list[LayerEdit]] = {}
    for each in edits:
        at.setdefault(each.edit.site, []).append(each)
    if "resid" in at:
        handle = on_stream(anatomy, layer, lambda x: _all(at["resid"], x.unsqueeze(2)).squeeze(2))
        stack.callback(handle.remove)
    if at.keys() & {"q", "k", "v", "scores", "pattern"}:
        stack.enter_context(attention_pre_hooks({anatomy.attention[layer]: _pre_hook(at)}))
    if "z" in at:
        stack.enter_context(attention_hooks({anatomy.attention[layer]: lambda call, z: _all(at["z"], z)}))
    if "result" in at:
        stack.callback(on_projection(anatomy, layer, _results(anatomy, layer, at["result"])).remove)
    if "attn_out" in at:
        handle = on_projection(anatomy, layer, lambda _, out: _all(at["attn_out"], out.unsqueeze(2)).squeeze(2))
        stack.callback(handle.remove)


def _all(edits: Iterable[LayerEdit], x: Tensor) -> Tensor:
    """Apply all edits in order to x [batch position head feature]."""
    for edit in edits:
        x = edit(x)
    return x


def _pre_hook(at: dict[str, list[LayerEdit]]) -> AttentionPreHook:
    weights = (*at.get("scores", ()), *at.get("pattern", ()))

    def pre_hook(call: AttentionCall) -> AttentionCall:
        query, key, value = call.query, call.key, call.value
        if "q" in at:
            query = _all(at["q"], query.transpose(1, 2)).transpose(1, 2)
        if "k" in at or "v" in at:
            groups = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))  # one key and value per head
        if "k" in at:
            key = _all(at["k"], key.transpose(1, 2)).transpose(1, 2)
        if "v" in at:
            value = _all(at["v"], value.transpose(1, 2)).transpose(1, 2)
        pattern = call.pattern
        if weights:
            earlier = pattern.edits if isinstance(pattern, PatternEdits) else ()
            pattern = PatternEdits((*earlier, *weights))
        return replace(call, query=query, key=key, value=value, pattern=pattern)

    return pre_hook


def _results(anatomy: Anatomy, layer: int, edits: list[LayerEdit]) -> Callable[[Tensor, Tensor], Tensor]:
    heads = torch.tensor(sorted({head for each in edits for head in each.edit.heads[layer]}))

    def change(z: Tensor, out: Tensor) -> Tensor:
        at = heads.to(z.device)
        plain = torch.einsum("bqhd,hdm->bqhm", z[:, :, at].float(), anatomy.w_o(layer)[at].float())
        edited = plain  # [batch position head d_model]
        for edit in edits:
            edited = edit(edited, heads=heads)
        return (out.float() + (edited - plain).sum(2)).to(out)

    return change


def on_stream(anatomy: Anatomy, layer: int, change: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Read, or replace, the residual stream [batch position d_model] before a layer (or after the last: `layers`)."""

    if layer == anatomy.layers:
        return on_output(anatomy.blocks[-1], change)
    return on_input(anatomy.blocks[layer], change)


def on_projection(anatomy: Anatomy, layer: int, change: Callable[[Tensor, Tensor], Tensor | None]) -> RemovableHandle:
    """Read a layer's z [batch position head d_head], and read or replace its attn_out [batch position d_model]."""

    shape = anatomy.shapes[layer]

    def hook(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        return change(args[0].reshape(*args[0].shape[:-1], shape.heads, shape.d_head), out)

    return anatomy.projections[layer].register_forward_hook(hook)
