"""The vocabulary of edits: what activations become, and where. `intervene` applies a list of them to a model.

An edit names a site (see `sites`), heads (layers, for the two sites that have no heads) and positions (or all). It
acts on what the edits before it left: those of earlier sites first, in the order of computation, and within a site in
the order of the list. Queries, keys and values are those of one query head: where heads share keys and values, an
edit of k or v gives the head its own, and the others of its group keep theirs. `knockout` acts on the edges that the
softmax may use, so after q, k and v and before pattern. Nothing is renormalised after a pattern was edited.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.sites import SITES, STREAM_SITES, Positions, Recording, Site, Where, by_position, union
from headatlas.notation import Head

Change = Callable[[Tensor, Where], Tensor]  # [batch position head feature] -> the same shape
Targets = Iterable[Head] | Iterable[int]  # heads; layers for resid and attn_out
Direction = Tensor | Mapping[Head, Tensor] | Mapping[int, Tensor]  # [feature]: one for all targets, or one for each


@dataclass(frozen=True)
class Edit:
    """One change, in the places it is made.

    Attributes:
        name: of the change, such as "zero".
        site: where it acts; "scores" for knockouts.
        heads: by layer; the one entry 0 for a site without heads.
        positions: as given; None for all.
        change: the pure function that does it.
        aligned: whether it needs to know which position is which, even where `positions` is None.
    """

    name: str
    site: Site | Literal["scores"]
    heads: Mapping[int, tuple[int, ...]]
    positions: Positions
    change: Change
    aligned: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.site} of layer {', '.join(map(str, self.heads))}"


def zero(site: Site, at: Targets, positions: Positions = None) -> Edit:
    """Put nothing in its place. Off-distribution: prefer `mean` or `resample` unless zero is meant."""
    return _edit("zero", site, at, positions, lambda x, _: torch.zeros_like(x))


def mean(
    site: Site, at: Targets, source: Recording | Sequence[Recording], positions: Positions = None, since: int = 1
) -> Edit:
    """Put a head's mean in its place: over all prompts and positions of the source, position 0 left out.

    Args:
        site: not pattern, whose rows have other keys at each position.
        at: heads, or layers.
        source: one recorded batch, or several of any lengths.
        positions: where to put it.
        since: the first position that counts; many heads rest on position 0.
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
    """The sum over prompts and positions from `since`, [head feature], and how many there were."""
    stored = by_position(site, source[site, layer]).float()  # [batch position head feature]
    held = torch.arange(stored.shape[1])[None] if source.positions is None else source.positions
    counted = (held >= since).expand(len(stored), -1).to(stored.device)
    if not counted.any():
        raise ValueError(f"the recording holds no position from {since} on, so there is no mean")
    return stored[counted].sum(0), int(counted.sum())


def position_mean(site: Site, at: Targets, source: Recording, positions: Positions = None) -> Edit:
    """Put a head's mean at each position in its place: over the prompts of the source, which must align."""
    return _from("position mean", site, at, source.mean_over_prompts(), positions)


def resample(site: Site, at: Targets, source: Recording, positions: Positions = None, seed: int = 0) -> Edit:
    """Put in its place what it is, at the same position, in a prompt of the source drawn at random.

    One donor is drawn for each prompt of a batch, with replacement; it gives to all targets of this edit.
    """

    def change(x: Tensor, where: Where) -> Tensor:
        held = len(source[site, where.layer])
        donors = torch.randint(held, (len(x),), generator=torch.Generator().manual_seed(seed))
        return _like(x, source.part(where, donors), site)

    return _edit("resample", site, at, positions, change, aligned=True)


def patch(site: Site, at: Targets, source: Recording, positions: Positions = None) -> Edit:
    """Put in its place what it was in another run: prompt by prompt, at the same positions."""
    return _from("patch", site, at, source, positions)


def scale(site: Site, at: Targets, factor: float, positions: Positions = None) -> Edit:
    """Multiply it."""
    return _edit("scale", site, at, positions, lambda x, _: x * factor)


def add(site: Site, at: Targets, direction: Direction, factor: float = 1.0, positions: Positions = None) -> Edit:
    """Add `factor` times a direction, whose length counts."""
    given = _directions(direction)
    return _edit("add", site, at, positions, lambda x, where: x.float() + factor * _of(given, x, where))


def project_out(
    site: Site, at: Targets, direction: Direction, mean: Direction | None = None, positions: Positions = None
) -> Edit:
    """Take away its component along a direction, whose length does not count.

    Args:
        site: where.
        at: heads, or layers.
        direction: what to take away.
        mean: a mean activation, whose component along the direction is put in its place.
        positions: where to do it.
    """
    given, kept = _directions(direction), None if mean is None else _directions(mean)
    if any(not each.any() for each in ([given] if isinstance(given, Tensor) else given.values())):
        raise ValueError("the direction to project out is zero, so it is none")

    def change(x: Tensor, where: Where) -> Tensor:
        along = torch.nn.functional.normalize(_of(given, x, where), dim=-1)
        away = x.float() if kept is None else x.float() - _of(kept, x, where)
        return x.float() - (away * along).sum(-1, keepdim=True) * along

    return _edit("project out", site, at, positions, change)


def knockout(at: Iterable[Head], edges: Sequence[tuple[int, int]] | Tensor) -> Edit:
    """Forbid (query, key) edges before the softmax, which shares their weight among the keys that are left.

    A query all of whose edges are forbidden attends to nothing: its z is zero.

    Args:
        at: heads.
        edges: pairs of positions, the same for every prompt, or a tensor [batch edge 2].

    Raises:
        ValueError: for no edges, or an edge to a later key, which is never there.
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
            f"{site} was recorded in {recorded.dtype} and the model runs in {x.dtype}; record it on the model as it is"
        )
    return recorded


def _edit(
    name: str,
    site: Site | Literal["scores"],
    at: Targets,
    positions: Positions,
    change: Change,
    aligned: bool = False,
) -> Edit:
    if site not in (*SITES, "scores"):
        raise ValueError(f"{site!r} is not a site; choose one of {', '.join(SITES)}")
    heads: dict[int, set[int]] = {}
    for target in at:
        if isinstance(target, Head) == (site in STREAM_SITES):
            raise ValueError(
                f"{name} {site} acts on {'layers' if site in STREAM_SITES else 'heads'}, not on {target!r}"
            )
        layer, head = target if isinstance(target, Head) else (target, 0)
        heads.setdefault(layer, set()).add(head)
    if not heads:
        raise ValueError(f"no heads to {name}; give at least one")
    chosen = {layer: tuple(sorted(heads[layer])) for layer in sorted(heads)}
    return Edit(name, site, chosen, positions, change, aligned or positions is not None or site == "pattern")


def _directions(direction: Direction) -> Tensor | dict[tuple[int, int], Tensor]:
    """One vector, or one per (layer, head), with 0 for the head where a site has none."""
    vectors = [direction] if isinstance(direction, Tensor) else list(direction.values())
    for vector in vectors:
        if vector.ndim != 1 or not vector.is_floating_point() or not torch.isfinite(vector).all():
            raise ValueError("a direction is one vector of finite floating-point numbers")
    if isinstance(direction, Tensor):
        return direction
    return {(at if isinstance(at, Head) else Head(at, 0)): vector for at, vector in direction.items()}


def _of(directions: Tensor | dict[tuple[int, int], Tensor], x: Tensor, where: Where) -> Tensor:
    """The directions of the heads at a place: [head feature], or [feature] for one direction."""
    if isinstance(directions, Tensor):
        chosen = directions
    else:
        wanted = [(where.layer, head) for head in where.heads.tolist()]
        if missing := [at for at in wanted if at not in directions]:
            raise ValueError(f"no direction is given for {Head(*missing[0])}")
        chosen = torch.stack([directions[at] for at in wanted])
    if chosen.shape[-1] != x.shape[-1]:
        raise ValueError(f"the direction has {chosen.shape[-1]} numbers, and {where.site} has {x.shape[-1]}")
    return chosen.to(x.device).float()
