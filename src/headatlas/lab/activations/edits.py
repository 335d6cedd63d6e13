"""Edits: what activations are replaced by, and where. `intervene` applies a list of them to a model.

An edit names a site (see `sites`), heads (layers, for the two sites without heads) and positions (or all). Edits act in
order of computation, and within a site in list order; each sees the result of earlier ones. An edit of k or v applies
to one query head: heads that share keys and values with it keep theirs. `knockout` acts on the edges available to the
softmax, after q, k and v and before pattern. An edited pattern is not renormalised.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.directions import DirectionLike, direction_at, directions_of
from headatlas.lab.activations.sites import SITES, STREAM_SITES, Positions, Recording, Site, Where, by_position, union
from headatlas.notation import Head, HeadLike, HeadsLike, heads_of, one_or_several

ActivationChange = Callable[[Tensor, Where], Tensor]  # [batch position head feature] -> the same shape
Targets = HeadsLike | Iterable[int]  # heads, such as "L5H10"; layers for resid and attn_out


@dataclass(frozen=True)
class Edit:
    """One change of activations at a site.

    Attributes:
        name: kind of change, such as "zero".
        site: where it acts; "scores" for knockouts.
        heads: head indices by layer; {layer: (0,)} for a site without heads.
        positions: as given; None for all.
        change: the pure function that computes the new activations.
        aligned: whether it depends on absolute positions, even if `positions` is None.
    """

    name: str
    site: Site | Literal["scores"]
    heads: Mapping[int, tuple[int, ...]]
    positions: Positions
    change: ActivationChange
    aligned: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.site} of layer {', '.join(map(str, self.heads))}"


def zero(site: Site, at: Targets, positions: Positions = None) -> Edit:
    """Zero-ablate: set activations to 0. Off-distribution; prefer `mean` or `resample` unless zero is meant."""
    return _edit("zero", site, at, positions, lambda x, _: torch.zeros_like(x))


def mean(
    site: Site, at: Targets, source: Recording | Sequence[Recording], positions: Positions = None, since: int = 1
) -> Edit:
    """Mean-ablate: replace activations by the head's mean over all prompts and positions of the source.

    Args:
        site: any but pattern, whose rows have different keys at each position.
        at: heads, or layers.
        source: one recorded batch, or several of any lengths.
        positions: where to apply the edit.
        since: first position included in the mean; position 0 is left out because many heads rest on it.
    """
    if site == "pattern":
        raise ValueError("a pattern has no mean over positions, as each row sees other keys; use position_mean")
    sources = [source] if isinstance(source, Recording) else list(source)
    if not sources:
        raise ValueError("no recordings to take the mean of; give at least one")

    @cache
    def average(layer: int) -> Tensor:
        totals = [_total(each, site, layer, since) for each in sources]
        return torch.stack([total for total, _ in totals]).sum(0) / sum(count for _, count in totals)

    def change(x: Tensor, where: Where) -> Tensor:
        value = average(where.layer)  # [head feature]
        return value[where.among(len(value)).to(value.device)].to(x).expand(*x.shape[:3], -1)

    return _edit("mean", site, at, positions, change)


def _total(source: Recording, site: Site, layer: int, since: int) -> tuple[Tensor, int]:
    """Sum over prompts and positions from `since` on, [head feature], and the number of terms."""
    stored = by_position(site, source[site, layer]).float()  # [batch position head feature]
    held = torch.arange(stored.shape[1])[None] if source.positions is None else source.positions
    counted = (held >= since).expand(len(stored), -1).to(stored.device)
    if not counted.any():
        raise ValueError(f"the recording holds no position from {since} on, so there is no mean")
    return stored[counted].sum(0), int(counted.sum())


def position_mean(site: Site, at: Targets, source: Recording, positions: Positions = None) -> Edit:
    """Replace activations by the head's mean at the same position, over the aligned prompts of the source."""
    return _from("position mean", site, at, source.mean_over_prompts(), positions)


def resample(site: Site, at: Targets, source: Recording, positions: Positions = None, seed: int = 0) -> Edit:
    """Replace each activation with its value at the same position in a random source prompt (resample ablation).

    One source prompt is drawn per prompt of a batch, with replacement, and used for all targets of this edit.
    """

    def change(x: Tensor, where: Where) -> Tensor:
        held = len(source[site, where.layer])
        donors = torch.randint(held, (len(x),), generator=torch.Generator().manual_seed(seed))
        return _like(x, source.part(where, donors), site)

    return _edit("resample", site, at, positions, change, aligned=True)


def patch(site: Site, at: Targets, source: Recording, positions: Positions = None) -> Edit:
    """Activation patching: replace activations with those of another run, prompt by prompt, at the same positions."""
    return _from("patch", site, at, source, positions)


def scale(site: Site, at: Targets, factor: float, positions: Positions = None) -> Edit:
    """Multiply activations by `factor`."""
    return _edit("scale", site, at, positions, lambda x, _: x * factor)


def add(site: Site, at: Targets, direction: DirectionLike, factor: float = 1.0, positions: Positions = None) -> Edit:
    """Add `factor` times a direction (not normalised) to activations."""
    given = directions_of(direction)
    return _edit("add", site, at, positions, lambda x, where: x.float() + factor * direction_at(given, x, where))


def project_out(
    site: Site, at: Targets, direction: DirectionLike, mean: DirectionLike | None = None, positions: Positions = None
) -> Edit:
    """Remove the component of activations along a direction (normalised first).

    Args:
        site: where.
        at: heads, or layers.
        direction: the direction to remove.
        mean: a mean activation; if given, the removed component is replaced by the mean's.
        positions: where to apply the edit.
    """
    given, kept = directions_of(direction), None if mean is None else directions_of(mean)
    if any(not each.any() for each in ([given] if isinstance(given, Tensor) else given.values())):
        raise ValueError("the direction to project out is zero; give a nonzero one")

    def change(x: Tensor, where: Where) -> Tensor:
        along = torch.nn.functional.normalize(direction_at(given, x, where), dim=-1)
        away = x.float() if kept is None else x.float() - direction_at(kept, x, where)
        return x.float() - (away * along).sum(-1, keepdim=True) * along

    return _edit("project out", site, at, positions, change)


def knockout(at: HeadsLike, edges: Sequence[tuple[int, int]] | Tensor) -> Edit:
    """Attention knockout: mask (query, key) edges before the softmax, so that their weight goes to the other keys.

    A query whose edges are all masked attends to nothing; its z is zero.

    Args:
        at: heads.
        edges: pairs of positions, the same for every prompt, or a tensor [batch edge 2].

    Raises:
        ValueError: for no edges, or for an edge to a later key, which does not exist.
    """
    pairs = torch.as_tensor(edges).cpu()
    if pairs.ndim not in (2, 3) or pairs.shape[-1] != 2 or not pairs.numel() or pairs.is_floating_point():
        raise ValueError("edges are (query, key) pairs of positions, and at least one; or a tensor [batch edge 2]")
    if (pairs[..., 1] > pairs[..., 0]).any() or (pairs < 0).any():
        raise ValueError("an edge goes from a query to a key that is not after it; positions count from 0")
    queries = union([pairs[..., 0]])

    def change(allowed: Tensor, where: Where) -> Tensor:
        """[batch position head key], boolean; the positions are `queries`."""
        each = pairs.expand(len(allowed), -1, -1).to(allowed.device)
        row = torch.searchsorted(queries.to(allowed.device), each[..., 0].contiguous())
        left = allowed.clone()
        left[torch.arange(len(allowed), device=allowed.device)[:, None], row, :, each[..., 1]] = False
        return left

    return _edit("knockout", "scores", at, queries, change, aligned=True)


def _from(name: str, site: Site, at: Targets, source: Recording, positions: Positions) -> Edit:
    return _edit(name, site, at, positions, lambda x, where: _like(x, source.part(where), site), aligned=True)


def _like(x: Tensor, recorded: Tensor, site: Site) -> Tensor:
    if recorded.dtype != x.dtype:
        raise HeadatlasError(
            f"{site} was recorded in {recorded.dtype} and the model runs in {x.dtype}; record it again on this model"
        )
    return recorded


def _edit(
    name: str,
    site: Site | Literal["scores"],
    at: Targets,
    positions: Positions,
    change: ActivationChange,
    aligned: bool = False,
) -> Edit:
    if site not in (*SITES, "scores"):
        raise ValueError(f"{site!r} is not a site; choose one of {', '.join(SITES)}")
    heads: dict[int, set[int]] = {}
    for layer, head in _places(name, site, at):
        heads.setdefault(layer, set()).add(head)
    if not heads:
        raise ValueError(f"no heads to {name}; give at least one")
    chosen = {layer: tuple(sorted(heads[layer])) for layer in sorted(heads)}
    return Edit(name, site, chosen, positions, change, aligned or positions is not None or site == "pattern")


def _places(name: str, site: str, at: Targets) -> list[Head]:
    """The heads that an edit acts on; head 0 of its layers for a site without heads."""
    targets: list[HeadLike | int] = one_or_several(at)
    layers = [target for target in targets if isinstance(target, int)]
    if site in STREAM_SITES:
        if heads := [target for target in targets if not isinstance(target, int)]:
            raise ValueError(f"{name} {site} acts on layers, not on {heads[0]!r}")
        return [Head(layer, 0) for layer in layers]
    if layers:
        raise ValueError(f"{name} {site} acts on heads, not on {layers[0]!r}; write a head as 'L5H10'")
    return heads_of(target for target in targets if not isinstance(target, int))
