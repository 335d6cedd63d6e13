"""Finds the anatomy of a model from one trial pass, and verifies the identities that measurements rest on."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy import families
from headatlas.lab.anatomy.anatomy import Anatomy, Shape, UnsafeModelError
from headatlas.lab.anatomy.gates import settle
from headatlas.lab.anatomy.qkv_layout import find_qkv_layout, is_linear
from headatlas.lab.anatomy.trial_pass import Step, TrialPass, block_path, gap, precision, run_trial_pass
from headatlas.lab.anatomy.unembed import find_unembed
from headatlas.lab.hooks.attention_interface import attention_hooks


def infer_anatomy(name: str, model: Any) -> Anatomy:
    """Infer a model's anatomy from one small forward pass, and check that the model is safe to measure.

    Checks: every attention layer calls the attention interface exactly once; the sum over heads of z W_O, plus the
    bias, equals the attention module's output; changing the last token changes no earlier logits; the heads of a
    layer differ; no value is NaN. If the query, key and value matrices, the final norm or the unembedding cannot be
    confirmed, the model can still be measured at z.

    Raises:
        UnsafeModelError: names the check that failed.
    """
    seen = run_trial_pass(model)
    if settle(model, seen):
        seen = run_trial_pass(model)
    _require_calls(name, model, seen)
    anatomy = _assemble(name, model, seen)
    for layer in anatomy.attention:
        if not (found := identity_gap(anatomy, seen, layer)) <= precision(seen.logits.dtype):
            raise UnsafeModelError(
                "identity",
                f"{name}: in layer {layer} the heads' outputs do not add up to the attention's output (off by "
                f"{found:.1e}), so z is not what the output projection reads; measuring it would be silently wrong",
            )
    _require_sane(name, anatomy, seen)
    return replace(anatomy, other_mixers=_mixes_without(model, anatomy, seen))


@torch.no_grad()
def _mixes_without(model: Any, anatomy: Anatomy, seen: TrialPass) -> bool:
    """Whether a token still affects later logits when z of every head is zero-ablated."""
    one = seen.tokens[:1]
    other = one.clone()
    other[0, -2] = (one[0, -2] + 1) % model.get_input_embeddings().weight.shape[0]
    with attention_hooks({module: lambda call, z: torch.zeros_like(z) for module in anatomy.attention.values()}):
        logits = model(torch.cat([one, other]), use_cache=False).logits
    return not gap(logits[1, -1], logits[0, -1]) <= precision(logits.dtype)


def _require_calls(name: str, model: Any, seen: TrialPass) -> None:
    if not seen.calls:
        raise UnsafeModelError("registry", no_route(name, model))
    for module, calls in seen.calls.items():
        if len(calls) != 1:
            layer = list(seen.calls).index(module)
            raise UnsafeModelError(
                "registry", f"{name}: attention {layer} ran {len(calls)} times in one pass; such models are refused"
            )


def no_route(name: str, model: Any) -> str:
    """The error message for a model whose attention cannot be hooked."""
    return f"{name} ({type(model).__name__}) {families.without_route(model)}; choose a model of another family"


def _assemble(name: str, model: Any, seen: TrialPass) -> Anatomy:
    blocks, numbers = _blocks(name, model, seen)
    first = {numbers[module]: (module, *calls[0]) for module, calls in seen.calls.items()}  # in execution order
    written = {layer: _output(name, module, seen.inside[module], z) for layer, (module, _, z) in first.items()}
    return Anatomy(
        attention={layer: module for layer, (module, _, _) in first.items()},
        projections={layer: step.module for layer, step in written.items()},
        shapes={layer: Shape(z.shape[2], call.key.shape[1], z.shape[3]) for layer, (_, call, z) in first.items()},
        layouts={layer: find_qkv_layout(seen.inside[module], call) for layer, (module, call, _) in first.items()},
        blocks=blocks,
        d_model=next(iter(written.values())).wrote.shape[-1],
        family=str(getattr(model.config, "model_type", type(model).__name__)),
        unembed=find_unembed(model, seen),
        embedding=model.get_input_embeddings(),
        one_stream=all(states.ndim == 3 for _, states in seen.blocks),
    )


def _blocks(name: str, model: Any, seen: TrialPass) -> tuple[tuple[nn.Module, ...], dict[nn.Module, int]]:
    """All decoder layers in execution order, and the layer number of each attention module."""
    paths = {module: path for path, module in model.named_modules()}
    holders = {module: block_path(paths[module]) for module in seen.calls}
    ran = [block for block, _ in seen.blocks]
    if len(set(ran)) < len(ran):
        raise UnsafeModelError(
            "layers", f"{name} runs a decoder layer more than once in one pass, so that layers have no number; refused"
        )
    numbers = {block: number for number, block in enumerate(ran)}
    places = {module: numbers.get(model.get_submodule(path)) for module, path in holders.items()}
    stacks = {path.rpartition(".")[0] for path in holders.values()}
    names = [paths[block].rpartition(".")[2] for block in ran]
    if len(stacks) == 1 and (left := _left_out(model, stacks, names)):
        raise UnsafeModelError(
            "layers", f"{name} leaves out decoder layers {', '.join(left)} where it reads text alone; refused"
        )
    in_order = len(ran) == 1 or names == [*map(str, range(len(ran)))]
    found = {module: place for module, place in places.items() if place is not None}
    if len(stacks) > 1 or not in_order or len(found) < len(places):
        raise UnsafeModelError(
            "layers",
            f"{name} does not run one stack of decoder layers from the first to the last "
            f"({', '.join(sorted(stacks))}), so that layers have no number; refused",
        )
    if len(set(found.values())) < len(found):
        raise UnsafeModelError(
            "layers", f"{name} has several attention modules in one decoder layer, so that heads have no name; refused"
        )
    return tuple(ran), found


def _left_out(model: Any, stacks: set[str], ran: list[str]) -> list[str]:
    """Names of the layers of the stack that did not run."""
    (stack,) = stacks
    return [each for each, _ in model.get_submodule(stack).named_children() if each.isdigit() and each not in ran]


def _output(name: str, module: nn.Module, steps: list[Step], z: Tensor) -> Step:
    """The linear map inside an attention module whose input is exactly z."""
    flat = z.flatten(2)
    for step in reversed(steps):
        if is_linear(step) and step.read.shape == flat.shape and torch.equal(step.read, flat):
            return step
    raise UnsafeModelError(
        "identity",
        f"{name}: no plain linear map in {type(module).__name__} reads z as it leaves the heads (quantised "
        "attention?), so ablating heads would be silently wrong",
    )


def identity_gap(anatomy: Anatomy, seen: TrialPass, layer: int) -> float:
    """Gap between sum_h z_h W_O^h + b and the output projection's output, relative to the largest output."""
    module = anatomy.attention[layer]
    z = seen.calls[module][0][1].float()
    written = next(step.wrote for step in reversed(seen.inside[module]) if step.module is anatomy.projections[layer])
    total = torch.einsum("bqhd,hdm->bqm", z, anatomy.w_o(layer).float())
    bias = anatomy.b_o(layer)
    return gap(total if bias is None else total + bias.float(), written)


def causality_gap(seen: TrialPass) -> float:
    """How much changing the last token changes earlier logits, relative to the largest of them."""
    return gap(seen.logits[1, :-1], seen.logits[0, :-1])


def _require_sane(name: str, anatomy: Anatomy, seen: TrialPass) -> None:
    if not torch.isfinite(seen.logits).all():
        raise UnsafeModelError(
            "finite", f"{name} gives NaN or infinite logits on a few random tokens; its weights are broken"
        )
    if not causality_gap(seen) <= precision(seen.logits.dtype):
        raise UnsafeModelError(
            "causality", f"{name} sees later tokens (it is not causal); headatlas measures causal decoders only"
        )
    zs = [calls[0][1] for calls in seen.calls.values()]  # [batch query head d_head] each
    if min(z.shape[2] for z in zs) > 1 and all(torch.equal(z, z[:, :, :1].expand_as(z)) for z in zs):
        raise UnsafeModelError("heads differ", f"all heads of {name} give identical outputs; its weights are broken")
