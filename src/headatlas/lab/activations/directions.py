"""Directions that edits add or project out: one for all targets, or one for each."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headatlas.lab.activations.sites import Where
from headatlas.notation import Head

DirectionLike = Tensor | Mapping[Head, Tensor] | Mapping[str, Tensor] | Mapping[int, Tensor]  # each [feature]


def directions_of(direction: DirectionLike) -> Tensor | dict[tuple[int, int], Tensor]:
    """One vector, or one per (layer, head); head is 0 for sites without heads."""
    vectors = [direction] if isinstance(direction, Tensor) else list(direction.values())
    for vector in vectors:
        if vector.ndim != 1 or not vector.is_floating_point() or not torch.isfinite(vector).all():
            raise ValueError("a direction is one vector of finite floating-point numbers")
    if isinstance(direction, Tensor):
        return direction
    return {(Head(at, 0) if isinstance(at, int) else Head.parse(at)): each for at, each in direction.items()}


def direction_at(directions: Tensor | dict[tuple[int, int], Tensor], x: Tensor, where: Where) -> Tensor:
    """Directions of the heads in `where`: [head feature], or [feature] for a single direction."""
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
