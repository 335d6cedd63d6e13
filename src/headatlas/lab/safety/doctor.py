"""Checks whether a model is safe to measure. Each check has a verdict, a sentence, and a figure if it measures one.

The checks use two forward passes. The trial pass, also made on opening, records every submodule. `prompt_checks` runs
realistic prompts: they begin with BOS, are as long as stimuli, and exceed any sliding window.

This module is long because all checks stand together, in the order in which the report lists them.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy import families, gates
from headatlas.lab.anatomy.anatomy import UnsafeModelError
from headatlas.lab.anatomy.discovery import causality_gap, identity_gap
from headatlas.lab.anatomy.trial_pass import TrialPass, gap, precision, run_trial_pass
from headatlas.lab.hooks.attention_interface import AttentionCall, attention_hooks
from headatlas.lab.loading import loading, multimodal, tokenizer_fit, unused_weights
from headatlas.lab.loading.attention_route import unrouted
from headatlas.lab.loading.file_headers import listed
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.loading.opening import open_model
from headatlas.lab.safety.diagnosis import Check, CheckVerdict, Diagnosis
from headatlas.lab.safety.prompt_checks import Inspection, inspect_prompts, recomputed_gap, windows

_PADS = 3


@dataclass(frozen=True)
class Seen:
    """The two passes that the checks use: the trial pass and the pass over realistic prompts."""

    small: TrialPass
    prompts: Inspection

    def worst(self, small: float, prompts: float) -> float:
        """The larger of two figures; the trial pass's figure if the prompts gave NaN, which has its own check."""
        return small if self.prompts.broken else max(small, prompts)


def doctor(model: str | Path | nn.Module | OpenModel, revision: str | None = None, **options: Any) -> Diagnosis:
    """Examine a model and report whether it is safe to measure.

    Args:
        model: an open model, or anything `open_model` takes (then closed again afterwards).
        revision: commit, tag or branch, for a hub id.
        options: of `open_model`.

    Raises:
        HeadatlasError: if there is no model to examine.
    """
    if isinstance(model, OpenModel):
        return _diagnose(model)
    try:
        with open_model(model, revision, **options) as opened:
            return _diagnose(opened)
    except UnsafeModelError as error:
        loaded = isinstance(model, nn.Module)
        name = options.get("called") or (type(model).__name__ if loaded else str(model))
        return Diagnosis(name, type(model).__name__ if loaded else None, (Check(error.check, "fail", str(error)),))


def _diagnose(model: OpenModel) -> Diagnosis:
    with torch.no_grad():
        seen = Seen(run_trial_pass(model.model), inspect_prompts(model))
        checks = tuple(check(model, seen) for check in CHECKS)
    return Diagnosis(model.name, model.architecture, checks)


def _judged(name: str, figure: float, seen: Seen, good: str, bad: str, otherwise: CheckVerdict = "fail") -> Check:
    fine = figure <= precision(seen.small.logits.dtype)
    return Check(name, "pass" if fine else otherwise, good if fine else bad, figure)


def _files(model: OpenModel, seen: Seen) -> Check:
    opened = model.opened
    said = [f"adapter {opened.adapter} merged"] if opened.adapter else []
    said += [f"left out: {line}" for line in unused_weights.as_lines(opened.left_out)]
    known = {why for why in opened.left_out if why not in (loading.ASKED, multimodal.NOT_READ)}
    if not said:
        loaded, all_used = opened.source == "loaded", "every tensor of the weight files is used"
        if opened.gguf:
            all_used = f"dequantised from {opened.gguf.file} ({opened.gguf.quantisation}); every tensor of it is used"
        return Check("files", "pass", "loaded by you" if loaded else all_used)
    return Check("files", "pass" if known and len(known) == len(said) else "note", "; ".join(said))


def _registry(model: OpenModel, seen: Seen) -> Check:
    layers = len(model.anatomy.attention)
    return Check("registry", "pass", f"all {layers} attention layers were hooked once ({model.implementation})")


def _layers(model: OpenModel, seen: Seen) -> Check:
    anatomy = model.anatomy
    said = [f"{anatomy.layers} layers, all with attention"]
    if anatomy.hybrid:
        places = anatomy.attention_places
        said = [f"a hybrid of {anatomy.layers} layers, with attention in {places}; heads carry these numbers"]
        if held := _held_elsewhere(model):
            said.append(f"the others hold {', '.join(held)}, which is not measured")
    if len(set(anatomy.shapes.values())) > 1:
        kinds: dict[str, list[str]] = {}
        for layer, shape in anatomy.shapes.items():
            shared = f", {shape.kv_heads} key/value heads" if shape.kv_heads < shape.heads else ""
            kinds.setdefault(f"{shape.heads} heads x {shape.d_head}{shared}", []).append(str(layer))
        each = "; ".join(f"{kind} in layers {', '.join(at)}" for kind, at in kinds.items())
        said.append(f"layers differ in shape: {each}")
    if anatomy.other_mixers:
        said.append("something besides attention moves information between positions, so no run skips positions")
    if not anatomy.one_stream:
        said.append("blocks carry several streams at once: the residual stream can be neither read nor edited")
    plain = len(said) == 1 and not anatomy.hybrid
    return Check("layers", "pass" if plain else "note", "; ".join(said))


def _held_elsewhere(model: OpenModel) -> list[str]:
    """Class names of the modules that layers without attention have in its place."""
    anatomy = model.anatomy
    parts = [
        part
        for layer, block in enumerate(anatomy.blocks)
        if layer not in anatomy.attention
        for part in block.children()
    ]
    common = {type(part).__name__ for layer in anatomy.attention for part in anatomy.blocks[layer].children()}
    return [name for name in dict.fromkeys(type(part).__name__ for part in parts) if name not in common]


def _finite(model: OpenModel, seen: Seen) -> Check:
    if not torch.isfinite(seen.small.logits).all():  # weights were checked on opening
        return Check("finite", "fail", "NaN or infinite logits")
    inspected = seen.prompts
    if inspected.broken:
        advice = "open it in float32 or bfloat16" if model.dtype == torch.float16 else "its weights may be broken"
        return Check("finite", "fail", f"NaN or infinite numbers in {inspected.broken}, on {inspected.said}; {advice}")
    return Check("finite", "pass", f"weights, z and logits, on {inspected.said}")


def _identity(model: OpenModel, seen: Seen) -> Check:
    small = max(identity_gap(model.anatomy, seen.small, layer) for layer in model.anatomy.attention)
    said = "sum over heads of z W_O, plus the bias, {} the attention output"
    worst = seen.worst(small, seen.prompts.identity)
    return _judged("identity", worst, seen, said.format("equals"), said.format("differs from"))


def _causality(model: OpenModel, seen: Seen) -> Check:
    said = "changing the last token changes {} before it"
    worst = seen.worst(causality_gap(seen.small), seen.prompts.causality)
    return _judged("causality", worst, seen, said.format("nothing"), said.format("logits"))


def _pass_through(model: OpenModel, seen: Seen) -> Check:
    worst = 0.0
    for tokens in (seen.small.tokens, *([] if seen.prompts.broken else [seen.prompts.tokens])):
        with attention_hooks({module: lambda call, z: None for module in model.anatomy.attention.values()}):
            watched = _logits(model, tokens)
        with unrouted(model.model, model.implementation):
            plain = _logits(model, tokens)
        if not torch.equal(watched, plain):
            worst = max(worst, gap(watched, plain))
    if worst == 0.0:
        return Check("pass-through", "pass", "logits with hooks are bit-identical to plain transformers", 0.0)
    said = "logits with hooks differ from plain transformers, but only by rounding"
    beyond = "logits with hooks differ from plain transformers"
    check = _judged("pass-through", worst, seen, said, beyond)
    return Check(check.name, "fail" if check.verdict == "fail" else "note", check.detail, check.figure)


def _recomputed(model: OpenModel, seen: Seen) -> Check:
    calls = seen.small.calls.values()
    small = max(recomputed_gap(call, z, torch.arange(z.shape[1])) for ((call, z),) in calls)
    said = "weights recomputed from queries, keys and mask {} the attention output"
    worst = seen.worst(small, seen.prompts.recomputed)
    return _judged("recomputed", worst, seen, said.format("reproduce"), said.format("do not reproduce"))


def _groups(model: OpenModel, seen: Seen) -> Check:
    each = dict.fromkeys((shape.heads, shape.kv_heads) for shape in model.anatomy.shapes.values())
    said = "; ".join(_grouped(heads, shared) for heads, shared in each)
    return Check("groups", "pass" if all(heads % shared == 0 for heads, shared in each) else "fail", said)


def _grouped(heads: int, shared: int) -> str:
    if heads == shared:
        return f"{heads} heads, each with its own key and value"
    many = "s" if shared > 1 else ""
    return f"{heads} query heads share {shared} key/value head{many}, {heads // shared} to one"


def _padding(model: OpenModel, seen: Seen) -> Check:
    tokens = seen.small.tokens[:1]
    pads = tokens.new_zeros(1, _PADS)
    mask = torch.cat([pads, torch.ones_like(tokens)], 1)
    options = {"attention_mask": mask}
    if "position_ids" in inspect.signature(model.model.forward).parameters:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    padded = _logits(model, torch.cat([pads, tokens], 1), **options)[:, _PADS:]
    said = "left-padded {} unpadded; headatlas pads nothing, it batches prompts by length"
    good, bad = said.format("equals"), said.format("differs from")
    return _judged("padding", gap(padded, _logits(model, tokens)), seen, good, bad, "note")


def _weights(model: OpenModel, seen: Seen) -> Check:
    layouts = model.anatomy.layouts
    if unknown := [str(layer) for layer, layout in layouts.items() if layout is None]:
        said = f"query, key and value matrices could not be confirmed in layer {', '.join(unknown)}"
        return Check("weights", "note", f"{said}: weight-level scores are refused, all else is measured")
    worst = 0.0
    for layer, layout in layouts.items():
        module = model.anatomy.attention[layer]
        ((call, _),) = seen.small.calls[module]
        assert layout is not None
        read = next(step.read for step in seen.small.inside[module] if step.module is layout.value.module)
        worst = max(worst, gap(layout.value.read(read) * layout.value_gain, call.value.transpose(1, 2)))
    kinds = ", ".join(dict.fromkeys(layout.kind for layout in layouts.values() if layout))
    return _judged("weights", worst, seen, f"{kinds}, confirmed by the attention call", f"{kinds}, values differ")


def _unembed(model: OpenModel, seen: Seen) -> Check:
    unembed = model.anatomy.unembed
    if unembed is None:
        return Check("unembed", "note", "final norm and unembedding could not be confirmed; residuals are not read")
    start = (*unembed.chain, unembed.unembedding)[0]
    states = next(step.read for step in reversed(seen.small.outside) if step.module is start)
    names = [type(module).__name__ for module in (*unembed.chain, unembed.unembedding)]
    cap = "" if unembed.softcap is None else f", softcap {unembed.softcap:g}"
    scale = "" if unembed.scale == 1 else f", times {unembed.scale:.4g}"
    said = f"{' then '.join(names)}{scale}{cap}"
    return _judged(
        "unembed", gap(unembed.logits(states), seen.small.logits), seen, said, f"{said}: not the logits", "note"
    )


def _head_width(model: OpenModel, seen: Seen) -> Check:
    d_model = model.anatomy.d_model
    sizes = dict.fromkeys((shape.heads, shape.d_head) for shape in model.anatomy.shapes.values())
    said = ", ".join(f"{heads} heads x {width} = {heads * width}" for heads, width in sizes)
    if all(heads * width == d_model for heads, width in sizes):
        return Check("head width", "pass", f"{said} = d_model")
    return Check("head width", "note", f"{said}, while d_model is {d_model}; heads are split by their own width")


def _peculiar(model: OpenModel, seen: Seen) -> Check:
    calls = [call for ((call, _),) in seen.small.calls.values()]
    layout = next((each for each in model.anatomy.layouts.values() if each), None)
    found = [*_windowed(model), *_of_calls(calls), *_of_family(model), *gates.said(model.anatomy.attention.values())]
    if layout and (layout.query_norm or layout.key_norm):
        found.append("norms on queries and keys, which QK matrices leave out")
    if layout and (layout.query_gain, layout.key_gain) != (1.0, 1.0):
        found.append(
            f"queries times {layout.query_gain:.4g} and keys times {layout.key_gain:.4g} on their way to scores"
        )
    return Check("peculiarities", "note" if found else "pass", "; ".join(found) or "none found")


def _windowed(model: OpenModel) -> list[str]:
    found = windows(model)
    sizes = sorted(set(found.values()))
    kinds = getattr(model.model.config.get_text_config(), "layer_types", None) or []
    others = sorted(set(kinds) - {"sliding_attention", "full_attention"})
    return [
        *[
            f"sliding window of {size} tokens in {list(found.values()).count(size)} of {model.anatomy.layers} layers"
            for size in sizes
        ],
        *[f"layers of kind {kind}" for kind in others],
    ]


def _of_calls(calls: list[AttentionCall]) -> list[str]:
    caps = sorted({call.softcap for call in calls if call.softcap is not None})
    sinks = sum(call.sinks is not None for call in calls)
    biased = sum(call.mask is not None and _biases(call.mask) for call in calls)
    return [
        *([f"scores biased by position (ALiBi) in {biased} layers, which QK matrices leave out"] if biased else []),
        *[f"scores softcapped at {cap:g}" for cap in caps],
        *([f"sinks in {sinks} of {len(calls)} layers, whose weight is never given back"] if sinks else []),
    ]


def _biases(mask: Tensor) -> bool:
    """Whether a mask biases scores rather than only hiding keys."""
    return mask.is_floating_point() and bool(((mask != 0) & (mask > torch.finfo(mask.dtype).min / 2)).any())


def _of_family(model: OpenModel) -> list[str]:
    config = model.model.config.get_text_config()
    clip = getattr(config, "clip_qkv", None) or getattr(getattr(config, "attn_config", None), "clip_qkv", None)
    said = [f"queries, keys and values clipped at {clip:g}, which weights leave out"] if clip else []
    route = families.route_of(model.model)
    return said + (route.notes(model.model.config) if route else [])


def _bos(model: OpenModel, seen: Seen) -> Check:
    bos = model.tokenizer.bos_token_id  # its embedding was checked on opening
    if why := model.vocabulary.without_bos:
        return Check("BOS", "note", f"{why}; prompts start with their first word, which takes the sink")
    adds = model.tokenizer("a").input_ids[:1] == [bos]
    own = "adds it too" if adds else "would not add it by itself"
    return Check("BOS", "pass", f"{model.tokenizer.bos_token} ({bos}) stands before every prompt; the tokenizer {own}")


def _tokenizer(model: OpenModel, seen: Seen) -> Check:
    size = model.model.get_input_embeddings().weight.shape[0]
    known = len(tokenizer_fit.ordinary(model.tokenizer))
    if unknown := tokenizer_fit.without_embedding(model.tokenizer, size):
        said = f"the model does not know {listed(unknown)}, which no text gives unless it spells them out"
        return Check("tokenizer", "note", said)
    if (made_of := model.opened.gguf) and made_of.unknown_split:
        said = f"{made_of.file} splits text by {made_of.unknown_split!r}, which transformers {made_of.transformers}"
        return Check("tokenizer", "note", f"{said} does not know; it splits as GPT-2 does, so some tokens may differ")
    return Check("tokenizer", "pass", f"{known} ordinary tokens, {size} embeddings")


def _dtype(model: OpenModel, seen: Seen) -> Check:
    dtypes = sorted({str(weight.dtype).removeprefix("torch.") for weight in model.model.parameters()})
    if dtypes == ["float32"]:
        return Check("dtype", "pass", "float32")
    tolerance = f"{precision(seen.small.logits.dtype):.0e}"
    return Check("dtype", "note", f"{', '.join(dtypes)}: checks are judged to {tolerance}; scores are made in float32")


def _logits(model: OpenModel, tokens: Tensor, **options: Tensor) -> Tensor:
    logits: Tensor = model.model(tokens, use_cache=False, **options).logits
    return logits


CHECKS: tuple[Callable[[OpenModel, Seen], Check], ...] = (
    _registry,
    _layers,
    _finite,
    _identity,
    _causality,
    _pass_through,
    _recomputed,
    _groups,
    _padding,
    _weights,
    _unembed,
    _head_width,
    _peculiar,
    _tokenizer,
    _bos,
    _dtype,
    _files,
)
