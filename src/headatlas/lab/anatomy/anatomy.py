"""A model's architecture, inferred from one forward pass, and the identities it must satisfy before it is measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy import families
from headatlas.lab.anatomy.gates import settle
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.anatomy.qkv_layout import QKVLayout, columns, find_qkv_layout, is_linear
from headatlas.lab.anatomy.trial_pass import Step, TrialPass, block_path, gap, precision, run_trial_pass
from headatlas.lab.anatomy.unembed import Unembed, find_unembed
from headatlas.lab.hooks.attention_interface import attention_hooks
from headatlas.notation import Head


class UnsafeModelError(HeadatlasError):
    """Raised for a model that loads but fails a safety check; `check` is the check's name in `headatlas doctor`."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


@dataclass(frozen=True)
class Shape:
    """Head counts of one layer.

    Attributes:
        heads, kv_heads: number of query heads, and of the key/value heads they share.
        d_head: width of one head's z.
    """

    heads: int
    kv_heads: int
    d_head: int


@dataclass(frozen=True)
class Anatomy:
    """The attention of a model, layer by layer.

    Layers keep the model's own numbers. Layers without attention (in hybrid models) have no entry in the mappings.

    Attributes:
        attention: attention module of each layer that has one, in execution order.
        projections: their output projections.
        shapes: their head counts and head widths.
        layouts: where their query, key and value matrices are; None if unconfirmed.
        blocks: all decoder layers, with attention or without.
        d_model: width of the residual stream.
        family: model type in the configuration, such as "gpt2".
        unembed: final norm and unembedding; None if unconfirmed.
        embedding: the token embedding; its weight is [vocabulary d_model].
        one_stream: whether blocks pass on a single residual stream [batch position d_model] (Gemma 3n has several).
        other_mixers: whether anything besides these heads moves information between positions, such as a state-space,
            convolution or recurrent layer.
    """

    attention: Mapping[int, nn.Module]
    projections: Mapping[int, nn.Module]
    shapes: Mapping[int, Shape]
    layouts: Mapping[int, QKVLayout | None]
    blocks: tuple[nn.Module, ...]
    d_model: int
    family: str
    unembed: Unembed | None
    embedding: nn.Module
    one_stream: bool = True
    other_mixers: bool = False

    @property
    def layers(self) -> int:
        """Number of decoder layers, with attention or without."""
        return len(self.blocks)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The numbers of the layers with attention, ascending."""
        return tuple(self.attention)

    @property
    def hybrid(self) -> bool:
        """Whether some layers have no attention."""
        return len(self.attention) < len(self.blocks)

    @property
    def uneven(self) -> bool:
        """Whether layers differ in the number or width of their heads, or some have no attention."""
        return self.hybrid or len(set(self.shapes.values())) > 1

    @property
    def heads(self) -> int:
        """Query heads per layer; the maximum if layers differ."""
        return max(shape.heads for shape in self.shapes.values())

    @property
    def kv_heads(self) -> int:
        """Key/value heads per layer; the maximum if layers differ."""
        return max(shape.kv_heads for shape in self.shapes.values())

    @property
    def d_head(self) -> int:
        """Width of one head's z; the maximum if layers differ."""
        return max(shape.d_head for shape in self.shapes.values())

    def heads_in(self, layer: int) -> int:
        """Number of query heads in a layer; 0 without attention."""
        return self.shapes[layer].heads if layer in self.shapes else 0

    def kv_heads_in(self, layer: int) -> int:
        """Number of key/value heads in a layer; 0 without attention."""
        return self.shapes[layer].kv_heads if layer in self.shapes else 0

    def d_head_in(self, layer: int) -> int:
        """Width of one head's z in a layer; 0 without attention."""
        return self.shapes[layer].d_head if layer in self.shapes else 0

    @property
    def all_heads(self) -> tuple[Head, ...]:
        """Every head, layer by layer."""
        return tuple(Head(layer, head) for layer, shape in self.shapes.items() for head in range(shape.heads))

    def require(self, heads: Iterable[Head]) -> None:
        """Check that the model has these heads; heads and layers count from 0.

        Raises:
            ValueError: names the first head that the model lacks.
        """
        for layer, head in sorted(heads):
            if not 0 <= head < (self.heads_in(layer) if 0 <= layer < self.layers else 0):
                raise ValueError(f"L{layer}H{head} is not in {self.described(layer)}")

    def require_attention(self, layer: int) -> None:
        """Check that a layer has attention.

        Raises:
            ValueError: if the layer has none, or does not exist.
        """
        if layer not in self.attention:
            raise ValueError(f"layer {layer} has no attention in {self.described(layer)}")

    def described(self, layer: int) -> str:
        """The model's size, worded for an error about a layer."""
        if not self.uneven:
            return f"a model of {self.layers} layers x {self.heads} heads"
        if 0 <= layer < self.layers and layer in self.shapes:
            return f"a model whose layer {layer} has {self.heads_in(layer)} heads"
        return f"a model of {self.layers} layers with attention in {self.attention_places}"

    @property
    def attention_places(self) -> str:
        """The layers with attention, worded for a sentence: 'layer 1', 'layers 0, 2'."""
        which = ", ".join(map(str, self.attention_layers))
        return f"layer {which}" if len(self.attention) == 1 else f"layers {which}"

    def empty(self, *leading: int, dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
        """An array [*leading layer head] filled with NaN, so that heads that do not exist stay NaN."""
        return np.full((*leading, self.layers, self.heads), np.nan, dtype)

    def stack(self, by_layer: Mapping[int, Tensor], axis: int) -> Tensor:
        """Stack one tensor per layer along a new layer axis, placed before `axis`, the head axis of each.

        Heads that do not exist are NaN (-1 in integer tensors).
        """
        if not self.uneven:
            return torch.stack([by_layer[layer] for layer in range(self.layers)], axis)
        first = next(iter(by_layer.values()))
        shape = [*first.shape[:axis], self.layers, self.heads, *first.shape[axis + 1 :]]
        missing = float("nan") if first.is_floating_point() else -1
        whole = torch.full(shape, missing, dtype=first.dtype, device=first.device)
        for layer, each in by_layer.items():
            whole.select(axis, layer).narrow(axis, 0, each.shape[axis]).copy_(each)
        return whole

    def strongest(self, values: NDArray[np.floating[Any]] | Tensor, largest: bool = True) -> Head:
        """The head with the largest (or smallest) of `values` [layer head]; NaN entries are skipped."""
        plain = np.asarray(values, float)
        place = np.nanargmax(plain) if largest else np.nanargmin(plain)
        return Head(*divmod(int(place), plain.shape[1]))

    def kv_head(self, head: Head) -> int:
        """Index, within its layer, of the key/value head that a query head reads."""
        shape = self.shapes[head.layer]
        return head.head * shape.kv_heads // shape.heads

    def w_o(self, layer: int) -> Tensor:
        """The output matrix of each head of a layer: [head d_head d_model]."""
        self.require_attention(layer)
        shape = self.shapes[layer]
        return columns(self.projections[layer]).reshape(shape.heads, shape.d_head, self.d_model)

    def b_o(self, layer: int) -> Tensor | None:
        """The bias of a layer's output projection, [d_model], or None."""
        bias: Tensor | None = getattr(self.projections[layer], "bias", None)
        return bias

    def layout(self, layer: int) -> QKVLayout:
        """Where a layer keeps its query, key and value matrices.

        Raises:
            HeadatlasError: if the layout is unconfirmed; the layer's weights then cannot be analysed.
        """
        self.require_attention(layer)
        layout = self.layouts[layer]
        if layout is None:
            raise HeadatlasError(
                f"layer {layer} of this model (family {self.family}) keeps its query, key and value matrices in a way "
                "headatlas could not confirm, so it reads nothing off them; measure z and attention instead"
            )
        return layout

    def w_q(self, layer: int) -> Tensor:
        """The query matrix of each head, before norms and position encoding: [head d_model d_head]."""
        return self.layout(layer).query.weight

    def w_k(self, layer: int) -> Tensor:
        """The key matrix of each key/value head, before norms and position encoding: [kv_head d_model d_head]."""
        return self.layout(layer).key.weight

    def w_v(self, layer: int) -> Tensor:
        """The value matrix of each key/value head, times the value scale: [kv_head d_model d_head]."""
        layout = self.layout(layer)
        return layout.value.weight if layout.value_gain == 1 else layout.value.weight * layout.value_gain

    def b_q(self, layer: int) -> Tensor | None:
        """The query bias of each head, [head d_head], or None."""
        return self.layout(layer).query.bias

    def b_k(self, layer: int) -> Tensor | None:
        """The key bias of each key/value head, [kv_head d_head], or None."""
        return self.layout(layer).key.bias

    def b_v(self, layer: int) -> Tensor | None:
        """The value bias of each key/value head, [kv_head d_head], or None."""
        layout, bias = self.layout(layer), self.layout(layer).value.bias
        return bias if bias is None or layout.value_gain == 1 else bias * layout.value_gain

    def qk(self, layer: int, head: int | None = None) -> LowRank:
        """The QK circuit W_Q W_K^T, [d_model d_model], of one head, or of all heads with a leading [head] axis.

        Excludes the score scaling, position encoding, and the query and key norms that `layout` reports.
        """
        return LowRank(self._chosen(self.w_q(layer), head), self._shared(layer, self.w_k(layer), head).mT)

    def ov(self, layer: int, head: int | None = None) -> LowRank:
        """The OV circuit W_V W_O, [d_model d_model], of one head, or of all heads with a leading [head] axis.

        Excludes any gate or norm before the output projection; `headatlas doctor` reports those.
        """
        return LowRank(self._shared(layer, self.w_v(layer), head), self._chosen(self.w_o(layer), head))

    def logits(self, states: Tensor) -> Tensor:
        """Apply the final norm and unembedding to residual-stream states: [... d_model] -> [... vocabulary].

        Raises:
            HeadatlasError: if these modules were not confirmed to give the model's own logits.
        """
        if self.unembed is None:
            raise HeadatlasError(
                f"what this model (family {self.family}) does after its last layer could not be confirmed, so "
                "residual states cannot be read as logits; use the model's own logits"
            )
        return self.unembed.logits(states)

    def _chosen(self, weight: Tensor, head: int | None) -> Tensor:
        return weight if head is None else weight[head]

    def _shared(self, layer: int, weight: Tensor, head: int | None) -> Tensor:
        if head is not None:
            return weight[self.kv_head(Head(layer, head))]
        shape = self.shapes[layer]
        return weight if shape.heads == shape.kv_heads else weight.repeat_interleave(shape.heads // shape.kv_heads, 0)


def examine(name: str, model: Any) -> Anatomy:
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
