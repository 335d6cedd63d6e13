"""A model's architecture, inferred from one forward pass, and the identities it must satisfy before it is measured.

This module is long because it is one class: the one place that says where a weight is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.anatomy.qkv_layout import QKVLayout, columns
from headatlas.lab.anatomy.unembed import Unembed
from headatlas.notation import Head, HeadLike, HeadsLike, heads_of


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

    def require(self, heads: HeadsLike) -> list[Head]:
        """Read heads, such as "L5H10", and check that the model has them; heads and layers count from 0.

        Returns:
            The heads, in the order given.

        Raises:
            HeadatlasError: for what is not a head.
            ValueError: names the first head that the model lacks.
        """
        chosen = heads_of(heads)
        for layer, head in sorted(chosen):
            if not 0 <= head < (self.heads_in(layer) if 0 <= layer < self.layers else 0):
                raise ValueError(f"L{layer}H{head} is not in {self.described(layer)}")
        return chosen

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

    def kv_head(self, head: HeadLike) -> int:
        """Index, within its layer, of the key/value head that a query head reads."""
        [(layer, index)] = self.require(head)
        shape = self.shapes[layer]
        return index * shape.kv_heads // shape.heads

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
            HeadatlasError: as in `confirmed_unembed`.
        """
        return self.confirmed_unembed.logits(states)

    @property
    def confirmed_unembed(self) -> Unembed:
        """The final norm and unembedding.

        Raises:
            HeadatlasError: if these modules were not confirmed to give the model's own logits.
        """
        if self.unembed is None:
            raise HeadatlasError(
                f"what this model (family {self.family}) does after its last layer could not be confirmed, so "
                "residual states cannot be read as logits; use the model's own logits"
            )
        return self.unembed

    def _chosen(self, weight: Tensor, head: int | None) -> Tensor:
        return weight if head is None else weight[head]

    def _shared(self, layer: int, weight: Tensor, head: int | None) -> Tensor:
        if head is not None:
            return weight[self.kv_head(Head(layer, head))]
        shape = self.shapes[layer]
        return weight if shape.heads == shape.kv_heads else weight.repeat_interleave(shape.heads // shape.kv_heads, 0)
