"""Linear maps at a frozen scale: a norm as it acted on given states, and the way from the last stream to the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.errors import HeadatlasError
from headatlas.lab.anatomy.qkv_layout import columns
from headatlas.lab.anatomy.trial_pass import precision
from headatlas.lab.loading.opening import OpenModel


@dataclass(frozen=True)
class FrozenNorm:
    """A norm with its scale held: x -> (x - centred * mean x) * gain + shift. gain [batch d_model], shift [d_model]."""

    gain: Tensor
    shift: Tensor
    centred: bool

    def before(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """The direction [batch d_model] as seen before the norm, and what the norm's bias adds along it: [batch]."""
        through = self.gain * direction
        if self.centred:
            through = through - through.mean(-1, keepdim=True)
        return through, direction @ self.shift


@torch.no_grad()
def freeze_norm(norm: nn.Module, states: Tensor) -> FrozenNorm:
    """A norm at its scale on states [batch d_model], its weights read off what it does to vectors made for it.

    Raises:
        HeadatlasError: where it is neither a layer norm nor a root-mean-square norm.
    """
    weight: Tensor = next(norm.parameters(), states.float())  # some norms have none (OLMo)

    def apply(x: Tensor) -> Tensor:
        output: Tensor = norm(x.to(weight))
        return output.float()

    sign = torch.ones(states.shape[-1], device=weight.device)  # of mean 0
    sign[1::2] = -1
    if len(sign) % 2:
        sign[-3:] = torch.tensor([1.0, 1.0, -2.0])
    loud = sign * 1e4  # epsilon does not count beside it
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
            f"{type(norm).__name__} is neither a layer norm nor a root-mean-square norm, so its scale cannot be frozen"
        )
    return FrozenNorm(scale * weights, shift, centred)


def logit_direction(
    model: OpenModel, prompts: Tensor, answers: Sequence[int] | Tensor, rivals: Sequence[Sequence[int]] | Tensor | None
) -> tuple[Tensor, Tensor]:
    """What the unembedding reads for answer minus mean rival: [batch d_model], and its bias [batch]."""
    ending = model.anatomy.unembed
    if ending is None:
        raise HeadatlasError(f"{model.name}: its final norm and unembedding could not be confirmed, so no attribution")
    right = torch.as_tensor(answers)
    wrong = torch.full((len(prompts), 0), -1) if rivals is None else torch.as_tensor(rivals)
    if right.shape != (len(prompts),) or wrong.ndim != 2 or len(wrong) != len(prompts):
        raise ValueError("answers must be [batch] and rivals [batch rival], one row for each prompt")
    weight = columns(ending.unembedding).T  # [vocabulary d_model]
    bias: Tensor | None = getattr(ending.unembedding, "bias", None)
    if right.min() < 0 or max(right.max(), wrong.max() if wrong.numel() else 0) >= len(weight):
        raise HeadatlasError(f"an answer or rival lies outside the vocabulary of {model.name} (0 to {len(weight) - 1})")
    if wrong.shape[1] and (wrong < 0).all(1).any():
        raise HeadatlasError("a prompt has no rivals; give each at least one, or none to any")
    share = (wrong >= 0).float() / (wrong >= 0).sum(1, keepdim=True).clamp_min(1)
    signs = torch.cat([torch.ones(len(prompts), 1), -share], 1).to(weight.device) * ending.scale  # [batch 1+rival]
    index = torch.cat([right[:, None], wrong.clamp_min(0)], 1).to(weight.device)
    direction = (signs[..., None] * weight[index].float()).sum(1)
    return direction, torch.zeros(len(prompts), device=weight.device) if bias is None else (signs * bias[index]).sum(1)


@torch.no_grad()
def before_unembed(model: OpenModel, states: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take what the unembedding reads back to the last residual stream.

    Args:
        model: whose final norm it is.
        states: [batch d_model], at which its scale is frozen.
        direction: [batch d_model], after it.

    Returns:
        The direction [batch d_model] before it; what its biases add along the direction, [batch]; and the states after
        it, [batch d_model].
    """
    ending = model.anatomy.unembed
    assert ending is not None  # unembedding_direction has refused such models
    bias = torch.zeros(len(direction), device=direction.device)
    reached = [states]
    for module in ending.chain:
        reached.append(module(reached[-1].to(model.dtype)).float())
    for module, before in zip(reversed(ending.chain), reversed(reached[:-1]), strict=True):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 2:  # a projection after the norm
            own: Tensor | None = getattr(module, "bias", None)
            bias = bias if own is None else bias + direction @ own.float()
            direction = direction @ columns(module).T.float()
        else:
            direction, constant = freeze_norm(module, before).before(direction)
            bias = bias + constant
    return direction, bias, reached[-1]
