"""Is a model safe to measure? Named checks, each with a verdict, a figure where there is one, and words."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab import gating, weights
from headatlas.lab.anatomy import UnsafeModelError, causality_gap, identity_gap
from headatlas.lab.diagnosis import Check, Diagnosis, Verdict
from headatlas.lab.opening import OpenModel, open_model, unrouted
from headatlas.lab.probing import Probe, gap, precision, probe
from headatlas.lab.seam import Call, tapped

_PADS = 3


def doctor(model: str | Path | nn.Module | OpenModel, revision: str | None = None, **options: Any) -> Diagnosis:
    """Examine a model and say whether measuring it is safe.

    Args:
        model: an open model, or whatever `open_model` takes; what is opened here is closed again.
        revision: commit, tag or branch, for a hub id.
        options: of `open_model`.

    Raises:
        HeadatlasError: where there is no model to examine.
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
        seen = probe(model.model)
        checks = tuple(check(model, seen) for check in CHECKS)
    return Diagnosis(model.name, type(model.model).__name__, checks)


def _judged(name: str, figure: float, seen: Probe, good: str, bad: str, otherwise: Verdict = "fail") -> Check:
    fine = figure <= precision(seen.logits.dtype)
    return Check(name, "pass" if fine else otherwise, good if fine else bad, figure)


def _registry(model: OpenModel, seen: Probe) -> Check:
    layers = model.anatomy.layers
    return Check("registry", "pass", f"all {layers} attention layers reach the seam once ({model.implementation})")


def _finite(model: OpenModel, seen: Probe) -> Check:
    fine = bool(torch.isfinite(seen.logits).all())  # opening has looked at every weight
    return Check("finite", "pass" if fine else "fail", "weights and logits" if fine else "NaN or infinite logits")


def _identity(model: OpenModel, seen: Probe) -> Check:
    worst = max(identity_gap(model.anatomy, seen, layer) for layer in range(model.anatomy.layers))
    said = "sum over heads of z W_O, plus the bias, {} what attention writes"
    return _judged("identity", worst, seen, said.format("is"), said.format("is not"))


def _causality(model: OpenModel, seen: Probe) -> Check:
    said = "another last token changes {} before it"
    return _judged("causality", causality_gap(seen), seen, said.format("nothing"), said.format("logits"))


def _pass_through(model: OpenModel, seen: Probe) -> Check:
    with tapped({module: lambda call, z: None for module in model.anatomy.attention}):
        watched = _logits(model, seen.tokens)
    with unrouted(model):
        plain = _logits(model, seen.tokens)
    if torch.equal(watched, plain):
        return Check("pass-through", "pass", "looking changes no bit of the logits", 0.0)
    said = "looking changes the logits of plain transformers, though only as rounding does"
    beyond = "looking changes the logits of plain transformers"
    check = _judged("pass-through", gap(watched, plain), seen, said, beyond)
    return Check(check.name, "fail" if check.verdict == "fail" else "note", check.detail, check.figure)


def _recomputed(model: OpenModel, seen: Probe) -> Check:
    worst = 0.0
    for ((call, z),) in seen.calls.values():
        every = torch.arange(z.shape[1], device=z.device).expand(z.shape[0], -1)
        pattern = weights.rows(call, every)  # [batch head query key]
        value = call.value.float().repeat_interleave(z.shape[2] // call.value.shape[1], dim=1)
        given = z if call.attended is None else call.attended
        worst = max(worst, gap((pattern @ value).transpose(1, 2), given))
    said = "weights computed from queries, keys and mask {} what attention gives"
    return _judged("recomputed", worst, seen, said.format("give"), said.format("do not give"))


def _groups(model: OpenModel, seen: Probe) -> Check:
    heads, shared = model.anatomy.heads, model.anatomy.kv_heads
    if heads == shared:
        return Check("groups", "pass", f"{heads} heads, each with its own key and value")
    each = heads // shared
    said = f"{heads} query heads share {shared} key/value head{'s' if shared > 1 else ''}, {each} to one"
    return Check("groups", "pass" if heads % shared == 0 else "fail", said)


def _padding(model: OpenModel, seen: Probe) -> Check:
    tokens = seen.tokens[:1]
    pads = tokens.new_zeros(1, _PADS)
    mask = torch.cat([pads, torch.ones_like(tokens)], 1)
    options = {"attention_mask": mask}
    if "position_ids" in inspect.signature(model.model.forward).parameters:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    padded = _logits(model, torch.cat([pads, tokens], 1), **options)[:, _PADS:]
    said = "left-padded {} unpadded; headatlas pads nothing, it batches prompts by length"
    good, bad = said.format("equals"), said.format("differs from")
    return _judged("padding", gap(padded, _logits(model, tokens)), seen, good, bad, "note")


def _weights(model: OpenModel, seen: Probe) -> Check:
    layouts = model.anatomy.layouts
    if unknown := [str(layer) for layer, layout in enumerate(layouts) if layout is None]:
        said = f"query, key and value matrices could not be confirmed in layer {', '.join(unknown)}"
        return Check("weights", "note", f"{said}: weight-level scores are refused, all else is measured")
    worst = 0.0
    for layout, (module, ((call, _),)) in zip(layouts, seen.calls.items(), strict=True):
        assert layout is not None
        read = next(step.read for step in seen.inside[module] if step.module is layout.value.module)
        worst = max(worst, gap(layout.value.read(read), call.value.transpose(1, 2)))
    kinds = ", ".join(dict.fromkeys(layout.kind for layout in layouts if layout))
    return _judged("weights", worst, seen, f"{kinds}, confirmed at the seam", f"{kinds}, values differ")


def _ending(model: OpenModel, seen: Probe) -> Check:
    ending = model.anatomy.ending
    if ending is None:
        return Check("ending", "note", "final norm and unembedding could not be confirmed; residuals are not read")
    start = (*ending.chain, ending.unembedding)[0]
    states = next(step.read for step in reversed(seen.outside) if step.module is start)
    names = [type(module).__name__ for module in (*ending.chain, ending.unembedding)]
    cap = "" if ending.softcap is None else f", softcap {ending.softcap:g}"
    scale = "" if ending.scale == 1 else f", times {ending.scale:.4g}"
    said = f"{' then '.join(names)}{scale}{cap}"
    return _judged("ending", gap(ending.logits(states), seen.logits), seen, said, f"{said}: not the logits", "note")


def _head_width(model: OpenModel, seen: Probe) -> Check:
    anatomy = model.anatomy
    product = anatomy.heads * anatomy.d_head
    said = f"{anatomy.heads} heads x {anatomy.d_head} = {product}"
    if product == anatomy.d_model:
        return Check("head width", "pass", f"{said} = d_model")
    return Check(
        "head width", "note", f"{said}, while d_model is {anatomy.d_model}; heads are split by their own width"
    )


def _peculiar(model: OpenModel, seen: Probe) -> Check:
    calls = [call for ((call, _),) in seen.calls.values()]
    layout = next((each for each in model.anatomy.layouts if each), None)
    found = [*_windows(model.model.config.get_text_config(), len(calls)), *_of_calls(calls)]
    found += gating.said(model.anatomy.attention)
    if layout and (layout.query_norm or layout.key_norm):
        found.append("norms on queries and keys, which QK matrices leave out")
    if layout and (layout.query_gain, layout.key_gain) != (1.0, 1.0):
        found.append(
            f"queries times {layout.query_gain:.4g} and keys times {layout.key_gain:.4g} on their way to scores"
        )
    return Check("peculiarities", "note" if found else "pass", "; ".join(found) or "none found")


def _windows(config: Any, layers: int) -> list[str]:
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or (["sliding_attention"] * layers if window else [])
    if getattr(config, "use_sliding_window", True) is False:
        return []
    count = sum(kind == "sliding_attention" for kind in kinds)
    said = [f"sliding window of {window} tokens in {count} of {layers} layers"] if window and count else []
    others = sorted(set(kinds) - {"sliding_attention", "full_attention"})
    return [*said, *[f"layers of kind {kind}" for kind in others]]


def _of_calls(calls: list[Call]) -> list[str]:
    caps = sorted({call.softcap for call in calls if call.softcap is not None})
    sinks = sum(call.sinks is not None for call in calls)
    return [
        *[f"scores softcapped at {cap:g}" for cap in caps],
        *([f"sinks in {sinks} of {len(calls)} layers, whose weight is never given back"] if sinks else []),
    ]


def _bos(model: OpenModel, seen: Probe) -> Check:
    bos = model.tokenizer.bos_token_id
    if bos is None:
        return Check("BOS", "note", "the tokenizer has none; prompts start with their first word, which takes the sink")
    vocabulary = model.model.get_input_embeddings().weight.shape[0]
    if bos >= vocabulary:
        return Check("BOS", "fail", f"the tokenizer's is {bos}, and the model knows {vocabulary} tokens: not its own")
    adds = model.tokenizer("a").input_ids[:1] == [bos]
    own = "adds it too" if adds else "would not add it by itself"
    return Check("BOS", "pass", f"{model.tokenizer.bos_token} ({bos}) stands before every prompt; the tokenizer {own}")


def _dtype(model: OpenModel, seen: Probe) -> Check:
    dtypes = sorted({str(weight.dtype).removeprefix("torch.") for weight in model.model.parameters()})
    if dtypes == ["float32"]:
        return Check("dtype", "pass", "float32")
    said = f"{', '.join(dtypes)}: checks are judged to {precision(seen.logits.dtype):.0e}; scores are made in float32"
    return Check("dtype", "note", said)


def _logits(model: OpenModel, tokens: Tensor, **options: Tensor) -> Tensor:
    logits: Tensor = model.model(tokens, use_cache=False, **options).logits
    return logits


CHECKS: tuple[Callable[[OpenModel, Probe], Check], ...] = (
    _registry,
    _finite,
    _identity,
    _causality,
    _pass_through,
    _recomputed,
    _groups,
    _padding,
    _weights,
    _ending,
    _head_width,
    _peculiar,
    _bos,
    _dtype,
)
