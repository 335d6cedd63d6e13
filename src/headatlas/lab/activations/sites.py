"""The sites where activations are recorded and edited, and a set of recorded activations.

In the order they are computed, layer by layer:

    resid      what enters the layer's block; layer L of a model of L layers is what leaves the last block
    q k v      query, key and value after position encoding
    pattern    attention weights; they follow from the scores, and a row need not sum to 1 (sinks, edits)
    z          the weighted values, behind a gate or a norm where there is one: what the output projection reads
    result     z_h W_O^h: what one head writes
    attn_out   what the output projection writes: the sum of the results, and its bias
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError

Site = Literal["resid", "q", "k", "v", "pattern", "z", "result", "attn_out"]
STREAM_SITES = ("resid", "attn_out")  # of a layer, not of a head
SITES = ("resid", "q", "k", "v", "pattern", "z", "result", "attn_out")
Positions = Sequence[int] | Tensor | None  # the same for every prompt, or a tensor [batch position]; None for all


@dataclass(frozen=True)
class Where:
    """Which part of a site: of one layer, some heads (of `total` in the layer) at some positions [batch position]."""

    site: str
    layer: int
    heads: Tensor
    total: int
    positions: Tensor

    def among(self, stored: int) -> Tensor:
        """The heads' places among `stored` heads: their own, or those of the key/value heads they share."""
        if stored == self.total:
            return self.heads
        if self.site not in ("k", "v") or self.total % stored:
            raise HeadatlasError(
                f"{self.site} was recorded of {stored} heads, and the model has {self.total}; record it on this model"
            )
        return self.heads * stored // self.total


@dataclass(frozen=True)
class Recording:
    """Activations of one batch of prompts, by site and layer: `recording["z", 3]`.

    Shapes: q, k, v, z and result [batch position head feature], with as many heads for k and v as there are key/value
    heads; pattern [batch head query key]; resid and attn_out [batch position d_model].

    Attributes:
        activations: by site and layer.
        positions: [batch position] that were recorded (query positions of a pattern), or None for all.
    """

    activations: Mapping[tuple[Site, int], Tensor]
    positions: Tensor | None = None

    def __getitem__(self, at: tuple[Site, int]) -> Tensor:
        if at not in self.activations:
            held = sorted({site for site, _ in self.activations})
            raise HeadatlasError(f"{at[0]} of layer {at[1]} was not recorded (only {', '.join(held)}); record it too")
        return self.activations[at]

    def mean_over_prompts(self) -> "Recording":
        """One prompt's worth: the mean over the batch at each position.

        Raises:
            HeadatlasError: where other positions were recorded of each prompt.
        """
        if self.positions is not None and not (self.positions == self.positions[:1]).all():
            raise HeadatlasError(
                "the recording holds other positions of each prompt, so there is no mean per position; "
                "record the same positions of all"
            )
        means = {at: each.float().mean(0, keepdim=True).to(each.dtype) for at, each in self.activations.items()}
        return replace(self, activations=means, positions=None if self.positions is None else self.positions[:1])

    def part(self, where: Where, prompts: Tensor | None = None) -> Tensor:
        """The recorded activations at a place: [batch position head feature].

        Args:
            where: the place.
            prompts: [batch], which recorded prompt to take for each; by default its own, or the only one there is.

        Raises:
            HeadatlasError: where the batch or the positions are not in the recording.
        """
        stored = by_position(where.site, self[where.site, where.layer])  # type: ignore[index]
        batch, device = where.positions.shape[0], stored.device
        if prompts is None:
            if len(stored) not in (1, batch):
                raise HeadatlasError(
                    f"the recording holds {len(stored)} prompts and the batch {batch}; record one for each"
                )
            prompts = torch.arange(batch) % len(stored)
        prompts = prompts.to(device)
        heads = where.among(stored.shape[2]).to(device)
        return stored[prompts[:, None, None], self._places(where, stored, prompts)[:, :, None], heads]

    def _places(self, where: Where, stored: Tensor, prompts: Tensor) -> Tensor:
        """Where along the stored positions the wanted ones stand: [batch position]."""
        wanted = where.positions.to(stored.device)
        if self.positions is None:
            if wanted.numel() and wanted.max() >= stored.shape[1]:
                raise HeadatlasError(
                    f"position {int(wanted.max())} of {where.site} is not in a recording of {stored.shape[1]} "
                    "positions; prompts must align, or choose positions"
                )
            return wanted
        held = self.positions.to(stored.device).expand(len(stored), -1)[prompts]  # [batch held]
        same = held[:, None, :] == wanted[:, :, None]  # [batch position held]
        if not same.any(-1).all():
            raise HeadatlasError(f"{where.site} was recorded at other positions than are asked for; record them too")
        return same.int().argmax(-1)


def by_position(site: str, activation: Tensor) -> Tensor:
    """The layout all sites share: [batch position head feature]. A stream site counts as one head."""
    if site == "pattern":
        return activation.transpose(1, 2)
    return activation.unsqueeze(2) if site in STREAM_SITES else activation


def union(tensors: Iterable[Tensor]) -> Tensor:
    """The different numbers in some tensors of integers, sorted, [number]."""
    return torch.tensor(sorted({number for each in tensors for number in each.flatten().tolist()}))


def located(positions: Positions, batch: int, length: int) -> Tensor:
    """Positions as [batch position].

    Raises:
        HeadatlasError: for positions that the prompts do not have, or of another number of prompts.
    """
    if positions is None:
        return torch.arange(length).expand(batch, -1)
    index = torch.as_tensor(positions).cpu()
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim not in (1, 2) or not index.numel():
        raise ValueError("positions must be integers, [position] or [batch position], and at least one")
    if index.ndim == 2 and len(index) not in (1, batch):
        raise HeadatlasError(
            f"positions are given for {len(index)} prompts, and the batch has {batch}; give one row for each"
        )
    outside = index[(index < 0) | (index >= length)]
    if len(outside):
        raise HeadatlasError(
            f"position {int(outside[0])} is outside a prompt of {length} tokens; positions count from 0"
        )
    return index.expand(batch, -1)
