"""Replacement values for the z of ablated heads (zero, mean, another run), and the hooks that insert them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import BATCH, stack_tokens
from headatlas.lab.running.forward import FIRST, forward
from headatlas.notation import HeadsLike


@dataclass(frozen=True)
class ZValues:
    """Replacement z of edited heads, per layer: broadcastable to [batch query head d_head].

    Attributes:
        z: one tensor per layer with attention, by layer number; or a sequence with one tensor for every layer.
        added: whether it is added to the head's z (steering) instead of replacing it (ablation).
    """

    z: Mapping[int, Tensor]
    added: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.z, Mapping):  # a sequence with one tensor for every layer
            object.__setattr__(self, "z", dict(enumerate(self.z)))

    @classmethod
    def zero(cls, anatomy: Anatomy) -> "ZValues":
        """Zero ablation; off-distribution, so use it only on purpose."""
        return cls({layer: torch.zeros(1, 1, 1, 1) for layer in anatomy.attention})

    @classmethod
    def of_heads(cls, anatomy: Anatomy, vectors: Tensor, added: bool = False) -> "ZValues":
        """One vector per head, the same at all positions: vectors [layer head d_head], padded if layers differ."""
        each = {layer: vectors[layer, : shape.heads, : shape.d_head] for layer, shape in anatomy.shapes.items()}
        return cls({layer: vector[None, None] for layer, vector in each.items()}, added)

    @classmethod
    def of_prompts(cls, anatomy: Anatomy, vectors: Tensor) -> "ZValues":
        """One vector per head for each prompt, the same at all positions: [prompt layer head d_head], padded."""
        return cls({layer: vectors[:, layer, None, : s.heads, : s.d_head] for layer, s in anatomy.shapes.items()})


def ablate(anatomy: Anatomy, heads: HeadsLike, reference: ZValues) -> dict[nn.Module, AttentionHook]:
    """Attention hooks that replace, or add to, z of the given heads at every position.

    Args:
        anatomy: of the model to hook.
        heads: at least one, each in the model.
        reference: the new z, or what is added to z.

    Raises:
        ValueError: for no heads, or a head the model lacks.
    """
    by_layer: dict[int, list[int]] = {}
    for head in anatomy.require(heads):
        by_layer.setdefault(head.layer, []).append(head.head)
    if not by_layer:
        raise ValueError("no heads to ablate; give at least one")
    return {
        anatomy.attention[layer]: _replace(sorted(set(chosen)), reference.z[layer], reference.added)
        for layer, chosen in by_layer.items()
    }


def _replace(heads: list[int], reference: Tensor, added: bool) -> AttentionHook:
    index = torch.tensor(heads)

    def hook(call: AttentionCall, z: Tensor) -> Tensor:
        source = reference.to(z).expand(z.shape)[:, :, index.to(z.device)]  # [batch query chosen d_head]
        edited = z.clone()
        edited[:, :, index.to(z.device)] = edited[:, :, index.to(z.device)] + source if added else source
        return edited

    return hook


def mean_z(model: OpenModel, tokens: Sequence[tuple[int, ...]], position: int | None = None) -> ZValues:
    """Each head's mean z over the given token sequences, excluding position 0 (where many heads rest).

    If `position` is given, the mean is over that position alone; negative ones count from the end.
    """
    total = {layer: torch.zeros(each.heads, each.d_head) for layer, each in model.anatomy.shapes.items()}
    count = 0
    for length in sorted({len(each) for each in tokens}):
        same = [each for each in tokens if len(each) == length]
        for start in range(0, len(same), BATCH):
            batch = same[start : start + BATCH]
            for layer, z in record_z(model, stack_tokens(batch)).z.items():
                chosen = z[:, 1:] if position is None else z[:, [position]]
                total[layer] += chosen.sum((0, 1))
            count += len(batch) * chosen.shape[1]
    return ZValues({layer: (each / count)[None, None] for layer, each in total.items()})


def record_z(model: OpenModel, tokens: Tensor) -> ZValues:
    """Record z of every head: per layer [batch query head d_head]."""
    return record_z_and_logits(model, tokens, FIRST)[0]


def record_z_and_logits(model: OpenModel, tokens: Tensor, keep: Tensor) -> tuple[ZValues, Tensor]:
    """Record z of every head, per layer [batch query head d_head], and logits at `keep`, [batch kept vocabulary]."""
    found: dict[int, Tensor] = {}

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            found[layer] = z.detach().float().cpu()

        return look

    hooks = {module: hook(layer) for layer, module in model.anatomy.attention.items()}
    logits = forward(model, tokens, hooks, keep)
    return ZValues(found), logits
