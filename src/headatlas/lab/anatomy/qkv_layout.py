"""Finds a layer's query, key and value matrices by shape, and confirms them numerically.

There is no table of families. Every slice of every matrix in the attention module that has the right shape is a
candidate; the one that reproduces the inputs of the attention call is accepted. This covers separate matrices, matrices
laid end to end (GPT-2, Phi-3), and matrices interleaved by head (GPT-NeoX) or by group (Falcon, CodeGen).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.trial_pass import Step, gap, precision
from headatlas.lab.hooks.attention_interface import AttentionCall


@dataclass(frozen=True)
class QKVSlice:
    """The output features of a linear map that are the heads' queries, keys or values.

    The features are laid out [group per width]; the slice takes `start` to `stop` of the `per` parts of every group.
    """

    module: nn.Module
    groups: int
    per: int
    start: int
    stop: int
    width: int

    def of(self, features: Tensor) -> Tensor:
        """Select the slice: [... features] -> [... head width]; a view unless groups of several heads lie apart."""
        parts = features.reshape(*features.shape[:-1], self.groups, self.per, self.width)
        return parts[..., self.start : self.stop, :].flatten(-3, -2)

    @property
    def weight(self) -> Tensor:
        """The weight of the slice, [head d_model width]."""
        return self.of(columns(self.module)).movedim(-2, 0)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the slice, [head width], or None."""
        bias: Tensor | None = getattr(self.module, "bias", None)
        return None if bias is None else self.of(bias)

    def read(self, states: Tensor) -> Tensor:
        """Multiply states by the weights, in float32: [batch position d_model] -> [batch position head width]."""
        product = torch.einsum("btm,hmd->bthd", states.float(), self.weight.float())
        return product if self.bias is None else product + self.bias.float()


@dataclass(frozen=True)
class QKVLayout:
    """How one layer computes queries, keys and values from its input.

    Attributes:
        query, key, value: slices of linear maps.
        query_norm, key_norm: norms applied to queries and keys before position encoding, or None.
        query_gain, key_gain: scale factors of queries and keys (from YaRN, or from a model that scales its queries
            itself); 1 in most models.
        value_gain: scale factor of values after their matrix (MiMo); 1 in most models.
    """

    query: QKVSlice
    key: QKVSlice
    value: QKVSlice
    query_norm: nn.Module | None
    key_norm: nn.Module | None
    query_gain: float
    key_gain: float
    value_gain: float = 1.0

    @property
    def kind(self) -> str:
        """A short description of the layout."""
        if self.query.module is not self.value.module:
            return "separate q, k, v"
        return "fused q|k|v" if self.value.groups == 1 else "fused, interleaved by head"


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is GPT-2's Conv1D, which stores its weight as [in out]."""
    return type(module).__name__ == "Conv1D"


def columns(module: nn.Module) -> Tensor:
    """The weight of a linear map as [in out]."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight if is_conv1d(module) else weight.T


def is_linear(step: Step) -> bool:
    """Whether a step is a product with a readable matrix (a quantised one is not)."""
    weight = getattr(step.module, "weight", None)
    return (
        isinstance(weight, Tensor)
        and weight.ndim == 2
        and weight.is_floating_point()
        and columns(step.module).shape == (step.read.shape[-1], step.wrote.shape[-1])
    )


def find_qkv_layout(steps: list[Step], call: AttentionCall) -> QKVLayout | None:
    """The layout of one layer, or None if no candidate reproduces the attention call's inputs.

    Args:
        steps: runs of the attention module's submodules.
        call: the attention call of the same forward pass.
    """
    maps = [step for step in steps if is_linear(step) and step.wrote.ndim == 3]
    value = _source(maps, call.value.transpose(1, 2), call.key.shape[1])
    query, query_norm = _encoded(maps, steps, call.query, call.key.shape[1])
    key, key_norm = _encoded(maps, steps, call.key, call.key.shape[1])
    if value is None or query is None or key is None:
        return None
    states = value[1].read
    if not all(torch.equal(states, each[1].read) for each in (query, key)):
        return None  # another map comes before one of them
    return QKVLayout(query[0], key[0], value[0], query_norm, key_norm, query[2], key[2], value[2])


def _encoded(
    maps: list[Step], steps: list[Step], seen: Tensor, kv_heads: int
) -> tuple[tuple[QKVSlice, Step, float] | None, nn.Module | None]:
    """The slice behind queries or keys [batch head position width], and the norm between them.

    Compared at position 0, where rotary encoding is the identity.
    """
    first = seen.transpose(1, 2)[:, :1]  # [batch 1 head width]
    if (found := _source(maps, first, kv_heads)) is not None:
        return found, None
    for step in steps:
        if any(step is each for each in maps) or step.read.shape != step.wrote.shape:
            continue
        wrote, read = _by_head(step.wrote, seen), _by_head(step.read, seen)
        if wrote is None or read is None or (gain := _gain(first, wrote[:, :1])) is None:
            continue
        if (found := _source(maps, read[:, :1], kv_heads)) is not None:
            return (found[0], found[1], gain), step.module
    return None, None


def _by_head(tensor: Tensor, seen: Tensor) -> Tensor | None:
    """[batch position head width] of a tensor in any of the layouts that norms receive."""
    batch, heads, position, width = seen.shape
    if tensor.shape == (batch, position, heads * width):
        return tensor.reshape(batch, position, heads, width)
    if tensor.shape == (batch, position, heads, width):
        return tensor
    return tensor.transpose(1, 2) if tensor.shape == seen.shape else None


def _source(maps: list[Step], target: Tensor, kv_heads: int) -> tuple[QKVSlice, Step, float] | None:
    """The slice that gives the target [batch position head width], up to a scale; confirmed from the weights."""
    positions = target.shape[1]
    for step in maps:
        for part in _candidates(step, target.shape[2], target.shape[3], kv_heads):
            plain = part.of(step.wrote)[:, :positions]
            if _gain(target, plain) is None:
                continue
            gain = _gain(target, part.read(step.read[:, :positions]))
            if gain is not None:
                return part, step, gain
    return None


def _candidates(step: Step, heads: int, width: int, kv_heads: int) -> Iterator[QKVSlice]:
    out = step.wrote.shape[-1]
    divisors = (groups for groups in range(1, heads + 1) if not heads % groups)
    for groups in dict.fromkeys((1, kv_heads, *divisors)):  # CodeGen has 4, a gate beside each query one per head
        if out % (groups * width) or heads % groups:
            continue
        per, wanted = out // (groups * width), heads // groups
        for start in range(per - wanted + 1):
            yield QKVSlice(step.module, groups, per, start, start + wanted, width)


def _gain(seen: Tensor, plain: Tensor) -> float | None:
    """The scale factor between two tensors [batch position head width], or None if they are not proportional.

    Position encoding may keep some dimensions and scale the others (partial rotary, YaRN).
    """
    tolerance = precision(seen.dtype)
    seen, plain = seen.float(), plain.float()
    if gap(plain, seen) <= tolerance:
        return 1.0
    scale = seen.abs().max().clamp_min(1e-6)
    apart = ((seen - plain).abs() > tolerance * scale).flatten(0, 2).any(0)  # [width]
    power = plain[..., apart].square().sum()
    gain = ((seen[..., apart] * plain[..., apart]).sum() / power.clamp_min(1e-30)).item()
    scaled = torch.where(apart, plain * gain, plain)
    return gain if gain > 0 and gap(scaled, seen) <= tolerance else None
