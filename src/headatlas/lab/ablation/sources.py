"""What the z of an ablated head becomes: zero, a mean, or the z of another run; and the hooks that put it there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.batches import BATCH, stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.notation import Head


@dataclass(frozen=True)
class Reference:
    """What an edited head's z becomes, per layer: broadcastable to [batch query head d_head].

    Attributes:
        z: one tensor per layer with attention, by the layer's number; or a sequence, one for every layer.
        added: whether it is added to what the head computes (steering), instead of taking its place (ablation).
    """

    z: Mapping[int, Tensor]
    added: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.z, Mapping):  # one tensor for every layer, in their order
            object.__setattr__(self, "z", dict(enumerate(self.z)))

    @classmethod
    def zero(cls, anatomy: Anatomy) -> "Reference":
        """Nothing: off-distribution, so only on request."""
        return cls({layer: torch.zeros(1, 1, 1, 1) for layer in anatomy.attention})

    @classmethod
    def of_heads(cls, anatomy: Anatomy, vectors: Tensor, added: bool = False) -> "Reference":
        """One vector per head, the same at all positions: vectors [layer head d_head], padded where layers differ."""
        each = {layer: vectors[layer, : shape.heads, : shape.d_head] for layer, shape in anatomy.shapes.items()}
        return cls({layer: vector[None, None] for layer, vector in each.items()}, added)


def ablate(anatomy: Anatomy, heads: Iterable[Head], reference: Reference) -> dict[nn.Module, AttentionHook]:
    """Taps that replace, or add to, z of the given heads at every position.

    Args:
        anatomy: of the model the taps are for.
        heads: which heads; at least one, each in the model.
        reference: their new z, or what is added to it.

    Raises:
        ValueError: for an empty set, or a head the model does not have.
    """
    by_layer: dict[int, list[int]] = {}
    chosen = [Head(*head) for head in heads]
    anatomy.require(chosen)
    for head in chosen:
        by_layer.setdefault(head.layer, []).append(head.head)
    if not by_layer:
        raise ValueError("no heads to ablate; give at least one")
    return {
        anatomy.attention[layer]: _replace(sorted(set(chosen)), reference.z[layer], reference.added)
        for layer, chosen in by_layer.items()
    }


def _replace(heads: list[int], reference: Tensor, added: bool) -> AttentionHook:
    index = torch.tensor(heads)

    def tap(call: AttentionCall, z: Tensor) -> Tensor:
        source = reference.to(z).expand(z.shape)[:, :, index.to(z.device)]  # [batch query chosen d_head]
        edited = z.clone()
        edited[:, :, index.to(z.device)] = edited[:, :, index.to(z.device)] + source if added else source
        return edited

    return tap


def mean_z(model: OpenModel, tokens: Sequence[tuple[int, ...]], position: int | None = None) -> Reference:
    """Each head's mean z over the given token lists, leaving out position 0 (where many heads rest).

    With a `position` it is the mean there alone; negative ones count from the end.
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
    return Reference({layer: (each / count)[None, None] for layer, each in total.items()})


def record_z(model: OpenModel, tokens: Tensor) -> Reference:
    """z of every head: per layer [batch query head d_head]."""
    found: dict[int, Tensor] = {}

    def tap(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            found[layer] = z.detach().float().cpu()

        return look

    run_layers(model, tokens, tap)
    return Reference(found)
