"""Folds the norms between residual stream and heads into the heads' weights.

A norm divides by a scalar and then acts as a matrix: it may subtract the mean, and it multiplies by its weights. That
matrix is folded into the heads' weights for comparisons; biases and the scalar, which is the same for all heads, are
left out. Norms are found by their inputs and outputs, and their matrix is inferred from a few test vectors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.blocks import find_blocks
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.anatomy.trial_pass import gap, precision, tokens_for
from headatlas.lab.loading.opened_model import OpenModel

_LARGE = 100.0  # scale of the test vectors, to make the norm's epsilon negligible


@dataclass(frozen=True)
class NormGain:
    """The linear part of a norm, on row vectors: subtract the mean if `centred`, multiply by `gain` [d_model]."""

    gain: Tensor
    centred: bool

    def apply(self, states: Tensor) -> Tensor:
        """Apply the linear part to states: [... d_model] -> [... d_model]."""
        states = states - states.mean(-1, keepdim=True) if self.centred else states
        return states * self.gain.to(states)

    def into(self, weight: Tensor) -> Tensor:
        """Fold the linear part into a weight that reads the norm's output: [... d_model d_head] -> same shape."""
        scaled = weight * self.gain.to(weight)[:, None]
        return scaled - scaled.mean(-2, keepdim=True) if self.centred else scaled


@dataclass(frozen=True)
class FoldedNorms:
    """The norms around each layer's heads.

    Attributes:
        model: the model.
        before: by layer with attention, the norm between residual stream and attention; None if there is none.
        after: the norm between the layer's attn_out and the stream; None in most models.
    """

    model: OpenModel
    before: Mapping[int, nn.Module | None]
    after: Mapping[int, nn.Module | None]

    def reads(self, layer: int, states: Tensor) -> Tensor:
        """Attention's input for given stream states, without the norm's bias: [... d_model], float32."""
        norm = self.before[layer]
        return states.float() if norm is None else without_bias(norm, states)

    def written(self, layer: int, outputs: Tensor) -> Tensor:
        """What head outputs [... d_model] add to the stream, up to a factor."""
        norm = self.after[layer]
        return outputs if norm is None else recognise_norm(norm, outputs.shape[-1]).apply(outputs)

    def added(self, layer: int, z: Tensor, attn_out: Tensor) -> Tensor:
        """What each head added to the stream in a run, with the norm after attention at its scale in that run.

        Args:
            layer: of the heads.
            z: [batch position head d_head].
            attn_out: [batch position d_model], output of the layer's output projection.

        Returns:
            [head batch position d_model], float32.
        """
        outputs = torch.einsum("bqhd,hdm->hbqm", z.float(), self.model.anatomy.w_o(layer).float())
        norm = self.after[layer]
        if norm is None:
            return outputs
        return outputs * self.scale(layer, attn_out)

    def scale(self, layer: int, attn_out: Tensor) -> Tensor:
        """Factors by which the norm after attention multiplied attn_out [... d_model]: [... d_model], float32."""
        norm = self.after[layer]
        if norm is None:
            return torch.ones_like(attn_out, dtype=torch.float32)
        linear = recognise_norm(norm, attn_out.shape[-1])
        if linear.centred:
            raise HeadatlasError(
                f"layer {layer} of {self.model.name} subtracts the mean of its heads' outputs; not supported yet"
            )
        whole, found = linear.apply(attn_out.float()), without_bias(norm, attn_out)
        divided = (found * whole).sum(-1, keepdim=True) / whole.square().sum(-1, keepdim=True).clamp_min(1e-30)
        return linear.gain.to(divided) * divided

    def qk(self, layer: int) -> LowRank:
        """The QK circuit W_Q W_K^T of each head, [head d_model d_model], with the norm before attention on both sides.

        Excludes scaling, position encoding, and norms on queries and keys.
        """
        plain, norm = self.model.anatomy.qk(layer), self.before[layer]
        if norm is None:
            return LowRank(plain.left.float(), plain.right.float())
        linear = recognise_norm(norm, self.model.anatomy.d_model)
        return LowRank(linear.into(plain.left.float()), linear.into(plain.right.float().mT).mT)

    def ov(self, layer: int) -> LowRank:
        """The OV circuit W_V W_O of each head, [head d_model d_model], with the norms before and after attention.

        If the norm before attention subtracts the mean, the mean of the output is removed too, as later norms do.
        """
        plain, norm = self.model.anatomy.ov(layer), self.before[layer]
        left, right = plain.left.float(), self.written(layer, plain.right.float())
        if norm is not None:
            linear = recognise_norm(norm, self.model.anatomy.d_model)
            left = linear.into(left)
            right = right - right.mean(-1, keepdim=True) if linear.centred else right
        return LowRank(left, right)


@torch.no_grad()
def without_bias(norm: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """Output of a norm on states [... d_model], minus its bias (its output on zeros), in float32."""
    dtype = _dtype(norm)
    return norm(states.to(dtype)).float() - norm(torch.zeros_like(states[..., :1, :], dtype=dtype)).float()


def _dtype(norm: Callable[[Tensor], Tensor]) -> torch.dtype:
    return next((each.dtype for each in getattr(norm, "parameters", lambda: iter(()))()), torch.float32)


def recognise_norm(norm: nn.Module, d_model: int) -> NormGain:
    """Infer the linear part of a norm from its outputs on a constant and an alternating vector.

    Raises:
        HeadatlasError: if its output on a third vector contradicts that.
    """
    device = next((each.device for each in norm.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    signs = torch.ones(d_model)
    signs[1::2] = -1.0
    tried = torch.stack([torch.ones(d_model), signs, torch.randn(d_model, generator=generator)]).to(device) * _LARGE
    constant, alternating, third = without_bias(norm, tried)
    centred = bool(constant.abs().max() < 1e-3 * alternating.abs().max())
    found = NormGain(alternating / _unit(tried[1], centred), centred)
    if not gap(found.apply(_unit(tried[2], centred)), third) <= 10 * precision(_dtype(norm)):
        raise HeadatlasError(
            f"{type(norm).__name__} does more than subtract the mean and multiply, so it cannot be folded into "
            "weights; measure z and attention instead"
        )
    return found


def _unit(states: Tensor, centred: bool) -> Tensor:
    states = states - states.mean() if centred else states
    return states / states.square().mean().sqrt()


def fold_norms(model: OpenModel) -> FoldedNorms:
    """Find the norms around the heads in one small forward pass, and check that blocks only add to the stream.

    Raises:
        HeadatlasError: if a block does anything else.
    """
    found = find_blocks(model, tokens_for(model.model))
    for layer, each in found.items():
        if not each.reads_stream:
            raise HeadatlasError(
                f"attention {layer} of {model.name} does not read the stream or a norm of it, so its heads' weights "
                "cannot be compared with others'; measure z instead"
            )
    before = {layer: each.before for layer, each in found.items()}
    return FoldedNorms(model, before, {layer: each.norm for layer, each in found.items()})
