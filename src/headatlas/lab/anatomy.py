"""What a model is made of, read off its shapes, and the identities that must hold before anything is measured."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.ending import Ending, find_ending
from headatlas.lab.factored import Factored
from headatlas.lab.gating import settle
from headatlas.lab.layout import Layout, columns, find_layout, is_linear
from headatlas.lab.probing import Probe, Step, block_path, gap, precision, probe


class UnsafeModelError(HeadatlasError):
    """A model that opened but must not be measured; `check` names what it failed, as `headatlas doctor` does."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


@dataclass(frozen=True)
class Anatomy:
    """The attention of a model, layer by layer.

    Attributes:
        attention: the attention modules in the order they run.
        projections: their output projections, in the same order.
        blocks: the decoder layers that hold them, in the same order.
        heads, kv_heads: query heads and key/value heads per layer; models whose layers differ are refused.
        d_head: width of one head's z.
        d_model: width of the residual stream.
        family: the model type of the configuration, such as "gpt2".
        layouts: where each layer keeps its query, key and value matrices; None where that could not be confirmed.
        ending: final norm and unembedding; None where they could not be confirmed.
        embedding: the token embedding; its weight is [vocabulary d_model].
    """

    attention: tuple[nn.Module, ...]
    projections: tuple[nn.Module, ...]
    blocks: tuple[nn.Module, ...]
    heads: int
    kv_heads: int
    d_head: int
    d_model: int
    family: str
    layouts: tuple[Layout | None, ...]
    ending: Ending | None
    embedding: nn.Module

    @property
    def layers(self) -> int:
        """How many attention layers there are."""
        return len(self.attention)

    def kv_head(self, head: int) -> int:
        """The key/value head that a query head reads."""
        return head * self.kv_heads // self.heads

    def w_o(self, layer: int) -> Tensor:
        """The output matrix of each head of a layer: [head d_head d_model]."""
        return columns(self.projections[layer]).reshape(self.heads, self.d_head, self.d_model)

    def b_o(self, layer: int) -> Tensor | None:
        """The bias of a layer's output projection, [d_model], where it has one."""
        bias: Tensor | None = getattr(self.projections[layer], "bias", None)
        return bias

    def layout(self, layer: int) -> Layout:
        """Where a layer keeps its query, key and value matrices.

        Raises:
            HeadatlasError: where it could not be confirmed; nothing that works on weights can be had then.
        """
        layout = self.layouts[layer]
        if layout is None:
            raise HeadatlasError(
                f"layer {layer} of this model (family {self.family}) keeps its query, key and value matrices in a way "
                "headatlas could not confirm, so it reads nothing off them; measure z and attention instead"
            )
        return layout

    def w_q(self, layer: int) -> Tensor:
        """The query matrix of each head: [head d_model d_head]. Norms and position encoding come after it."""
        return self.layout(layer).query.weight

    def w_k(self, layer: int) -> Tensor:
        """The key matrix of each key/value head: [kv_head d_model d_head]. Norms and position encoding come after."""
        return self.layout(layer).key.weight

    def w_v(self, layer: int) -> Tensor:
        """The value matrix of each key/value head: [kv_head d_model d_head]."""
        return self.layout(layer).value.weight

    def b_q(self, layer: int) -> Tensor | None:
        """The query bias of each head, [head d_head], where there is one."""
        return self.layout(layer).query.bias

    def b_k(self, layer: int) -> Tensor | None:
        """The key bias of each key/value head, [kv_head d_head], where there is one."""
        return self.layout(layer).key.bias

    def b_v(self, layer: int) -> Tensor | None:
        """The value bias of each key/value head, [kv_head d_head], where there is one."""
        return self.layout(layer).value.bias

    def qk(self, layer: int, head: int | None = None) -> Factored:
        """W_Q W_K^T, [d_model d_model], of one head, or of all with a leading [head] axis.

        It leaves out the scaling, position encoding, and the norms on queries and keys that `layout` reports.
        """
        return Factored(self._chosen(self.w_q(layer), head), self._shared(self.w_k(layer), head).mT)

    def ov(self, layer: int, head: int | None = None) -> Factored:
        """W_V W_O, [d_model d_model], of one head, or of all with a leading [head] axis."""
        return Factored(self._shared(self.w_v(layer), head), self._chosen(self.w_o(layer), head))

    def logits(self, states: Tensor) -> Tensor:
        """Final norm and unembedding of residual states: [... d_model] -> [... vocabulary].

        Raises:
            HeadatlasError: where they could not be confirmed to give the model's own logits.
        """
        if self.ending is None:
            raise HeadatlasError(
                f"what this model (family {self.family}) does after its last layer could not be confirmed, so "
                "residual states cannot be read as logits; use the model's own logits"
            )
        return self.ending.logits(states)

    def _chosen(self, weight: Tensor, head: int | None) -> Tensor:
        return weight if head is None else weight[head]

    def _shared(self, weight: Tensor, head: int | None) -> Tensor:
        if head is not None:
            return weight[self.kv_head(head)]
        return weight if self.heads == self.kv_heads else weight.repeat_interleave(self.heads // self.kv_heads, 0)


def examine(name: str, model: Any) -> Anatomy:
    """Read a model's anatomy with one small forward pass, and check that measuring it is safe.

    Checked: every attention layer passes through the seam exactly once; the sum over heads of z W_O, plus the
    bias, is what the attention module adds; changing the last token changes nothing before it; the heads of a
    layer differ; nothing is NaN. Query, key and value matrices, final norm and unembedding are confirmed too, but a
    model whose are not is still measured at z.

    Raises:
        UnsafeModelError: naming what failed.
    """
    seen = probe(model)
    if settle(model, seen):
        seen = probe(model)
    _require_calls(name, model, seen)
    anatomy = _assemble(name, model, seen)
    for layer in range(anatomy.layers):
        if not (found := identity_gap(anatomy, seen, layer)) <= precision(seen.logits.dtype):
            raise UnsafeModelError(
                "identity",
                f"{name}: in layer {layer} the heads' outputs do not add up to the attention's output (off by "
                f"{found:.1e}), so z is not what the output projection reads; measuring it would be silently wrong",
            )
    _require_sane(name, anatomy, seen)
    return anatomy


def _require_calls(name: str, model: Any, seen: Probe) -> None:
    if not seen.calls:
        raise UnsafeModelError("registry", no_route(name, model))
    for module, calls in seen.calls.items():
        if len(calls) != 1:
            layer = list(seen.calls).index(module)
            raise UnsafeModelError(
                "registry", f"{name}: attention {layer} ran {len(calls)} times in one pass; such models are refused"
            )


def no_route(name: str, model: Any) -> str:
    """What is said of a model whose attention cannot be reached."""
    return (
        f"{name} ({type(model).__name__}) does not route attention through transformers' registry, so its heads cannot "
        "be measured; choose a model of another family"
    )


def _assemble(name: str, model: Any, seen: Probe) -> Anatomy:
    first = [(module, *calls[0]) for module, calls in seen.calls.items()]
    shapes = {(z.shape[2], call.key.shape[1], z.shape[3]) for _, call, z in first}
    if len(shapes) > 1:
        raise UnsafeModelError(
            "layers", f"{name} has layers of different head counts or sizes ({sorted(shapes)}); not supported yet"
        )
    heads, kv_heads, d_head = shapes.pop()
    written = [_output(name, module, seen.inside[module], z) for module, _, z in first]
    paths = {module: path for path, module in model.named_modules()}
    return Anatomy(
        attention=tuple(seen.calls),
        projections=tuple(step.module for step in written),
        blocks=tuple(model.get_submodule(block_path(paths[module])) for module in seen.calls),
        heads=heads,
        kv_heads=kv_heads,
        d_head=d_head,
        d_model=written[0].wrote.shape[-1],
        family=str(getattr(model.config, "model_type", type(model).__name__)),
        layouts=tuple(find_layout(seen.inside[module], call) for module, call, _ in first),
        ending=find_ending(model, seen),
        embedding=model.get_input_embeddings(),
    )


def _output(name: str, module: nn.Module, steps: list[Step], z: Tensor) -> Step:
    """The linear map inside an attention module that reads exactly its z."""
    flat = z.flatten(2)
    for step in reversed(steps):
        if is_linear(step) and step.read.shape == flat.shape and torch.equal(step.read, flat):
            return step
    raise UnsafeModelError(
        "identity",
        f"{name}: no plain linear map in {type(module).__name__} reads z as it leaves the heads (quantised "
        "attention?), so ablating heads would be silently wrong",
    )


def identity_gap(anatomy: Anatomy, seen: Probe, layer: int) -> float:
    """How far sum_h z_h W_O^h + b is from what the output projection wrote, relative to the largest of it."""
    module = anatomy.attention[layer]
    z = seen.calls[module][0][1].float()
    written = next(step.wrote for step in reversed(seen.inside[module]) if step.module is anatomy.projections[layer])
    total = torch.einsum("bqhd,hdm->bqm", z, anatomy.w_o(layer).float())
    bias = anatomy.b_o(layer)
    return gap(total if bias is None else total + bias.float(), written)


def causality_gap(seen: Probe) -> float:
    """How much another last token changes the logits before it, relative to the largest of them."""
    return gap(seen.logits[1, :-1], seen.logits[0, :-1])


def _require_sane(name: str, anatomy: Anatomy, seen: Probe) -> None:
    if not torch.isfinite(seen.logits).all():
        raise UnsafeModelError(
            "finite", f"{name} gives NaN or infinite logits on a few random tokens; its weights are broken"
        )
    if not causality_gap(seen) <= precision(seen.logits.dtype):
        raise UnsafeModelError(
            "causality", f"{name} sees later tokens (it is not causal); headatlas measures causal decoders only"
        )
    zs = [calls[0][1] for calls in seen.calls.values()]  # [batch query head d_head] each
    if anatomy.heads > 1 and all(torch.equal(z, z[:, :, :1].expand_as(z)) for z in zs):
        raise UnsafeModelError("heads differ", f"all heads of {name} give identical outputs; its weights are broken")
