"""The sites where activations are recorded and edited, and a container of recorded activations.

In order of computation within a layer:

    resid      residual stream before the layer's block; for L = number of layers, after the last block
    q k v      query, key and value after position encoding
    pattern    attention weights, computed from the scores; a row need not sum to 1 (sinks, edits)
    z          weighted sum of values, after any gate or norm: the input of the output projection
    result     z_h W_O^h: the output of one head
    attn_out   output of the output projection: the sum of the results plus its bias
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.notation import Head, HeadLike

Site = Literal["resid", "q", "k", "v", "pattern", "z", "result", "attn_out"]
STREAM_SITES = ("resid", "attn_out")  # sites of a layer, without heads
SITES = ("resid", "q", "k", "v", "pattern", "z", "result", "attn_out")
Positions = Sequence[int] | Tensor | None  # the same for every prompt, or a tensor [batch position]; None means all


@dataclass(frozen=True)
class Where:
    """Part of a site: some heads (of `total`) of one layer, at some positions [batch position]."""

    site: str
    layer: int
    heads: Tensor
    total: int
    positions: Tensor

    def among(self, stored: int) -> Tensor:
        """Indices of the heads among `stored` heads: the heads themselves, or the key/value heads they share."""
        if stored == self.total:
            return self.heads
        if self.site not in ("k", "v") or self.total % stored:
            raise HeadatlasError(
                f"{self.site} was recorded with {stored} heads, and the model has {self.total}; record it on this model"
            )
        return self.heads * stored // self.total


@dataclass(frozen=True, repr=False)
class Recording:
    """Activations of one batch of prompts, by site and layer: `recording["z", 3]`.

    Shapes: q, k, v, z and result [batch position head feature], where k and v have one entry per key/value head;
    pattern [batch head query key]; resid and attn_out [batch position d_model].

    Attributes:
        activations: by site and layer.
        positions: recorded positions [batch position] (for pattern: queries), or None for all.
    """

    activations: Mapping[tuple[Site, int], Tensor]
    positions: Tensor | None = None

    def __repr__(self) -> str:
        counts = Counter(site for site, _ in self.activations)
        return f"<recording: {', '.join(f'{site} of {count} layers' for site, count in counts.items())}>"

    def __getitem__(self, at: tuple[Site, int | HeadLike]) -> Tensor:
        """The activations of a site in a layer, or of one head: `recording["pattern", "L4H5"]`, [batch query key].

        Raises:
            HeadatlasError: for what was not recorded, or a head that the recording does not have.
        """
        site, place = at
        return self._layer(site, place) if isinstance(place, int) else self._head(site, Head.parse(place))

    def _head(self, site: Site, head: Head) -> Tensor:
        """What was recorded of one head: pattern [batch query key], otherwise [batch position feature]."""
        if site in (*STREAM_SITES, "k", "v"):
            raise HeadatlasError(
                f"{site} is recorded per {'layer' if site in STREAM_SITES else 'key/value head'}, not per head; take "
                f"recording[{site!r}, {head.layer}]"
            )
        stored = by_position(site, self._layer(site, head.layer))  # [batch position head feature]
        if head.head >= stored.shape[2]:
            raise HeadatlasError(f"{head} is not in layer {head.layer}, of which {stored.shape[2]} heads were recorded")
        return stored[:, :, head.head]

    def _layer(self, site: Site, layer: int) -> Tensor:
        at = site, layer
        if at not in self.activations:
            held = sorted({site for site, _ in self.activations})
            raise HeadatlasError(f"{at[0]} of layer {at[1]} was not recorded (only {', '.join(held)}); record it too")
        return self.activations[at]

    def mean_over_prompts(self) -> "Recording":
        """Average over the batch at each position; the result holds one prompt.

        Raises:
            HeadatlasError: if the recorded positions differ between prompts.
        """
        if self.positions is not None and not (self.positions == self.positions[:1]).all():
            raise HeadatlasError(
                "the recording holds different positions of each prompt, so there is no mean per position; record the "
                "same positions of all"
            )
        means = {at: each.float().mean(0, keepdim=True).to(each.dtype) for at, each in self.activations.items()}
        return replace(self, activations=means, positions=None if self.positions is None else self.positions[:1])

    def part(self, where: Where, prompts: Tensor | None = None) -> Tensor:
        """Select recorded activations: [batch position head feature].

        Args:
            where: the heads and positions.
            prompts: [batch], which recorded prompt to use for each prompt; by default the same index, or the only one.

        Raises:
            HeadatlasError: if the batch or the positions are not in the recording.
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
        """Index of each wanted position along the stored positions: [batch position]."""
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
            raise HeadatlasError(f"{where.site} was not recorded at all the positions needed; record them too")
        return same.int().argmax(-1)


def by_position(site: str, activation: Tensor) -> Tensor:
    """Move heads to axis 2, the common layout: [batch position head feature]; stream sites get one head."""
    if site == "pattern":
        return activation.transpose(1, 2)
    return activation.unsqueeze(2) if site in STREAM_SITES else activation


def union(tensors: Iterable[Tensor]) -> Tensor:
    """The distinct integers in some tensors, sorted: [number]."""
    return torch.tensor(sorted({number for each in tensors for number in each.flatten().tolist()}))


def located(positions: Positions, batch: int, length: int) -> Tensor:
    """Positions as [batch position].

    Raises:
        HeadatlasError: for positions outside the prompts, or for a different number of prompts.
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
