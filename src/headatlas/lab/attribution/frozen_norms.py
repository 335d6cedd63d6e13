"""Norms linearised at a frozen scale, and the linear map from the last residual stream to the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.anatomy.trial_pass import precision
from headatlas.lab.loading.opened_model import OpenModel


@dataclass(frozen=True)
class FrozenNorm:
    """A norm with frozen scale: x -> (x - centred * mean x) * gain + shift; gain [batch d_model], shift [d_model]."""

    gain: Tensor
    shift: Tensor
    centred: bool

    def before(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Pull a direction [batch d_model] back through the norm; also return its product with the bias, [batch]."""
        through = self.gain * direction
        if self.centred:
            through = through - through.mean(-1, keepdim=True)
        return through, direction @ self.shift


@torch.no_grad()
def freeze_norm(norm: nn.Module, states: Tensor) -> FrozenNorm:
    """Freeze a norm at its scale on states [batch d_model]; its weights are inferred from its outputs on test vectors.

    Raises:
        HeadatlasError: if it is neither a LayerNorm nor an RMSNorm.
    """
    weight: Tensor = next(norm.parameters(), states.float())  # some norms have no parameters (OLMo)

    def apply(x: Tensor) -> Tensor:
        output: Tensor = norm(x.to(weight))
        return output.float()

    sign = torch.ones(states.shape[-1], device=weight.device)  # becomes alternating, with mean 0
    sign[1::2] = -1
    if len(sign) % 2:
        sign[-3:] = torch.tensor([1.0, 1.0, -2.0])
    loud = sign * 1e4  # large enough to make the norm's epsilon negligible
    shift = apply(torch.zeros_like(sign))
    weights = (apply(loud) - shift) / (sign / sign.square().mean().sqrt())
    tolerance = precision(weight.dtype)
    centred = bool((apply(loud + 1e4) - apply(loud)).abs().max() <= 10 * tolerance * weights.abs().max())
    states = states.to(weight.device)
    plain = (states - states.mean(-1, keepdim=True) if centred else states) * weights
    wrote = apply(states) - shift
    scale = (wrote * plain).sum(-1, keepdim=True) / plain.square().sum(-1, keepdim=True).clamp_min(1e-30)
    if not ((wrote - scale * plain).abs().max() <= 10 * tolerance * wrote.abs().max()):
        raise HeadatlasError(
            f"{type(norm).__name__} is neither a LayerNorm nor an RMSNorm, so its scale cannot be frozen"
        )
    return FrozenNorm(scale * weights, shift, centred)


def logit_direction(
    model: OpenModel, prompts: Tensor, answers: Sequence[int] | Tensor, rivals: Sequence[Sequence[int]] | Tensor | None
) -> tuple[Tensor, Tensor]:
    """Unembedding direction of answer minus mean rival, [batch d_model], and its bias [batch]."""
    unembed = model.anatomy.unembed
    if unembed is None:
        raise HeadatlasError(f"{model.name}: its final norm and unembedding could not be confirmed, so no attribution")
    right = torch.as_tensor(answers)
    wrong = torch.full((len(prompts), 0), -1) if rivals is None else torch.as_tensor(rivals)
    if right.shape != (len(prompts),) or wrong.ndim != 2 or len(wrong) != len(prompts):
        raise ValueError("answers must be [batch] and rivals [batch rival], one row for each prompt")
    weight = columns(unembed.unembedding).T  # [vocabulary d_model]
    bias: Tensor | None = getattr(unembed.unembedding, "bias", None)
    if right.min() < 0 or max(right.max(), wrong.max() if wrong.numel() else 0) >= len(weight):
        raise HeadatlasError(f"an answer or rival lies outside the vocabulary of {model.name} (0 to {len(weight) - 1})")
    if wrong.shape[1] and (wrong < 0).all(1).any():
        raise HeadatlasError("a prompt has no rivals; give each at least one, or none to any")
    share = (wrong >= 0).float() / (wrong >= 0).sum(1, keepdim=True).clamp_min(1)
    signs = torch.cat([torch.ones(len(prompts), 1), -share], 1).to(weight.device) * unembed.scale  # [batch 1+rival]
    index = torch.cat([right[:, None], wrong.clamp_min(0)], 1).to(weight.device)
    direction = (signs[..., None] * weight[index].float()).sum(1)
    return direction, torch.zeros(len(prompts), device=weight.device) if bias is None else (signs * bias[index]).sum(1)


@torch.no_grad()
def before_unembed(model: OpenModel, states: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pull a direction back through the final norm to the last residual stream.

    Args:
        model: the model with the norm.
        states: [batch d_model], at which the norm's scale is frozen.
        direction: [batch d_model], after the norm.

    Returns:
        The direction before the norm [batch d_model]; the contribution of biases along the direction, [batch]; and the
        states after the norm, [batch d_model].
    """
    unembed = model.anatomy.unembed
    assert unembed is not None  # logit_direction refuses models without it
    bias = torch.zeros(len(direction), device=direction.device)
    reached = [states]
    for module in unembed.chain:
        reached.append(module(reached[-1].to(model.dtype)).float())
    for module, before in zip(reversed(unembed.chain), reversed(reached[:-1]), strict=True):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:  # a projection after the norm
            own: Tensor | None = getattr(module, "bias", None)
            bias = bias if own is None else bias + direction @ own.float()
            direction = direction @ columns(module).T.float()
        else:
            direction, constant = freeze_norm(module, before).before(direction)
            bias = bias + constant
    return direction, bias, reached[-1]
