"""Checks user input (prompts, queries, keys, pairs) and turns it into tensors of positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError

PositionsLike = Tensor | Sequence[int] | Sequence[Sequence[int]] | Sequence[Sequence[Sequence[int]]]


def prompts(tokens: Tensor | Sequence[Sequence[int]], context: int | None) -> Tensor:
    """Token ids as [batch position].

    Raises:
        HeadatlasError: if prompts differ in length, are empty, or exceed the model's context.
    """
    if not isinstance(tokens, Tensor) and len({len(each) for each in tokens}) > 1:
        lengths = sorted({len(each) for each in tokens})
        raise HeadatlasError(
            f"the prompts differ in length ({lengths[0]} to {lengths[-1]} tokens); measure one length at a time"
        )
    found = _integers(tokens, "tokens")
    if found.ndim != 2 or not found.numel():
        raise HeadatlasError(f"tokens must be [batch position] and not empty, got {list(found.shape)}")
    if context is not None and found.shape[1] > context:
        raise HeadatlasError(f"prompts of {found.shape[1]} tokens do not fit the model's context of {context}")
    return found


def queries(positions: PositionsLike | None, batch: int, length: int) -> Tensor:
    """Query positions as [batch row]; None means all.

    Raises:
        HeadatlasError: if they lie outside the prompt, or there are none.
    """
    found = torch.arange(length) if positions is None else _integers(positions, "positions")
    if found.ndim not in (1, 2):
        raise HeadatlasError(f"positions must be [row] or [batch row], got {list(found.shape)}")
    _require_inside(found, length, "positions", lowest=0)
    return _per_prompt(found if found.ndim == 2 else found[None], batch, "positions").expand(batch, -1)


def keys(sets: PositionsLike, rows: Tensor, length: int, per_query: bool = True) -> Tensor:
    """Sets of keys as [1|batch key], or as [batch row key] if they differ by query; padded with -1.

    Args:
        sets: [key], [batch key] or [batch row key].
        rows: [batch row], the query positions.
        length: of the prompts, in tokens.
        per_query: whether sets may differ by query.

    Raises:
        HeadatlasError: if they lie outside the prompt or ahead of their query, or there are none.
    """
    found = _integers(sets, "keys")
    if found.ndim not in ((1, 2, 3) if per_query else (1, 2)):
        form = "[key], [batch key] or [batch query key]" if per_query else "[key] or [batch key]"
        raise HeadatlasError(f"keys must be {form}, got {list(found.shape)}")
    _require_inside(found, length, "keys", lowest=-1)
    found = _per_prompt(found if found.ndim > 1 else found[None], len(rows), "keys")
    if found.ndim == 2:
        return found
    if found.shape[1] not in (1, rows.shape[1]):
        raise HeadatlasError(
            f"keys name {found.shape[1]} queries, but {rows.shape[1]} are asked for; give one set each"
        )
    found = found.expand(len(rows), rows.shape[1], -1)
    _require_causal(rows[..., None].expand_as(found), found)
    found = found.sort(-1).values
    again = torch.zeros_like(found, dtype=torch.bool)
    again[..., 1:] = found[..., 1:] == found[..., :-1]
    return found.masked_fill(again, -1)


def pairs(given: PositionsLike, batch: int, length: int | None = None) -> Tensor:
    """(query, key) positions as [batch pair 2].

    Raises:
        HeadatlasError: if one lies outside a prompt of `length`, a key lies ahead of its query, or there are none.
    """
    found = _integers(given, "pairs")
    if found.ndim not in (2, 3) or found.shape[-1] != 2:
        raise HeadatlasError(f"pairs must be [pair 2] or [batch pair 2], (query, key) each, got {list(found.shape)}")
    if length is not None:
        _require_inside(found, length, "pairs", lowest=0)
        _require_causal(found[..., 0], found[..., 1])
    return _per_prompt(found if found.ndim == 3 else found[None], batch, "pairs").expand(batch, -1, -1)


@dataclass(frozen=True)
class ByQuery:
    """Pairs grouped by query, so that each attention row is computed about once.

    Attributes:
        queries: [batch row].
        keys: [batch row key], padded with -1.
        place: [batch pair], index of each pair along row*key.
    """

    queries: Tensor
    keys: Tensor
    place: Tensor


def by_query(given: Tensor) -> ByQuery:
    """Group pairs [batch pair 2] by query.

    A query with many pairs is split into several rows, so that rows x keys stays below three times the pairs.
    """
    batch, count, _ = given.shape
    width = min(-(-count // len(set(prompt))) for prompt in given[..., 0].tolist())
    gathered: list[dict[tuple[int, int], list[int]]] = []
    place = []
    for prompt in given.tolist():
        seen: dict[int, int] = {}
        rows: dict[tuple[int, int], list[int]] = {}
        order: dict[tuple[int, int], int] = {}
        for query, key in prompt:
            seen[query] = seen.get(query, -1) + 1
            name = (query, seen[query] // width)
            order.setdefault(name, len(order))
            rows.setdefault(name, []).append(key)
            place.append(order[name] * width + len(rows[name]) - 1)
        gathered.append(rows)
    most = max(len(rows) for rows in gathered)
    queries = torch.zeros(batch, most, dtype=torch.long)
    keys = torch.full((batch, most, width), -1)
    for number, rows in enumerate(gathered):
        queries[number, : len(rows)] = torch.tensor([query for query, _ in rows])
        keys[number, : len(rows)] = torch.tensor([[*each, *[-1] * (width - len(each))] for each in rows.values()])
    return ByQuery(queries, keys, torch.tensor(place).view(batch, count))


def _integers(given: object, what: str) -> Tensor:
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError):
        raise HeadatlasError(f"{what} must be whole numbers in lists of one length; pad sets of keys with -1") from None
    if found.numel() and (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool):
        raise HeadatlasError(f"{what} must be whole numbers, got {str(found.dtype).removeprefix('torch.')}")
    return found.long().cpu()


def _per_prompt(found: Tensor, batch: int, what: str) -> Tensor:
    if len(found) not in (1, batch):
        raise HeadatlasError(f"{what} are given for {len(found)} prompts, but there are {batch}")
    return found


def _require_inside(found: Tensor, length: int, what: str, lowest: int) -> None:
    if not found.numel():
        raise HeadatlasError(f"{what} are empty; name at least one")
    outside = found[(found < lowest) | (found >= length)]
    if len(outside):
        raise HeadatlasError(f"{what} name {int(outside[0])}, but the prompt has positions 0 to {length - 1}")


def _require_causal(queries: Tensor, keys: Tensor) -> None:
    ahead = keys > queries
    if ahead.any():
        query, key = int(queries[ahead][0]), int(keys[ahead][0])
        raise HeadatlasError(f"key {key} lies ahead of query {query}; a causal model gives it no weight")
