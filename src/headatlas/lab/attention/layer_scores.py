"""Scores of one layer's attention, computed from query, key and mask without storing full [query key] patterns.

There are two ways, chosen per layer. Fused attention gives each row's log-sum-exp and the mean of any column under the
row's weights; single weights are p_ij = exp(scaling q_i.k_j - lse_i), computed on demand. If fused attention does not
apply (softcap, sinks, sliding windows, edited patterns, argmax, few rows), `headatlas.lab.attention.patterns` scores a
few rows of the pattern at a time. Memory is linear in prompt length both ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.attention import fused, patterns
from headatlas.lab.hooks.attention_interface import AttentionCall
from headatlas.lab.hooks.row_weights import attention_rows, value_norms

ReadKind = Literal["weights", "mass", "argmax", "entropy", "distance"]
Norm = Literal["value", "output"]
BLOCK = 2**21  # numbers in one block of rows
_FEW = 8  # for fewer than 1/8 of the queries, computing rows is cheaper than a fused pass over all queries


@dataclass(frozen=True, eq=False)
class LayerScore:
    """A score to compute for each attention row of one layer.

    Attributes:
        kind: 'weights' on each of the row's keys, their 'mass', 'argmax', 'entropy', or 'distance' moments.
        queries: [batch row], the query position of each row.
        keys: for weights, each row's keys [batch row key]; for mass also one set per prompt [batch key], or None for
            all. Padded with -1. No key lies ahead of its row's query.
        sinks: [batch key], positions to exclude; the remaining weights of each row are renormalised.
        norm: multiply each weight by the norm of its value, or of its value times W_O.
        place: [batch pair], for weights: which ones to return, in which order, as indices along row*key.
    """

    kind: ReadKind
    queries: Tensor
    keys: Tensor | None = None
    sinks: Tensor | None = None
    norm: Norm | None = None
    place: Tensor | None = None


def read_scores(call: AttentionCall, readings: Sequence[LayerScore], w_o: Tensor | None = None) -> list[Tensor]:
    """Compute scores of one layer; readings that share the same `queries` tensor share the work.

    Args:
        call: one layer's attention call.
        readings: the scores; their tensors may be on any device.
        w_o: the layer's output matrices [head d_head d_model], for readings with norm 'output'.

    Returns:
        One tensor per reading on the layer's device, float32 but int64 for 'argmax': [batch head row], with one more
        axis for weights ([key], 0 where the key is -1) and distance ([2]); [batch head pair] if `place` is given.
    """
    if call.attended is not None and any(each.norm == "output" for each in readings):
        raise HeadatlasError(
            "attention is gated or normalised before W_O, so the norm of a value times W_O depends on the query; use "
            "norm='value'"
        )
    norms = {
        norm: value_norms(call, w_o if norm == "output" else None) for norm in {each.norm for each in readings} if norm
    }
    groups: dict[int, list[int]] = {}
    for number, reading in enumerate(readings):
        groups.setdefault(id(reading.queries), []).append(number)
    found: dict[int, Tensor] = {}
    in_one_pass: list[int] = []
    for numbers in groups.values():
        group = [readings[number] for number in numbers]
        if _fusable(call, group):
            in_one_pass += numbers
        else:
            found |= zip(numbers, _in_blocks(call, group, norms), strict=True)
    if in_one_pass:
        chosen = [readings[number] for number in in_one_pass]
        found |= zip(in_one_pass, _in_one_pass(call, chosen, norms), strict=True)
    return [_placed(reading, found[number]) for number, reading in enumerate(readings)]


def _placed(reading: LayerScore, result: Tensor) -> Tensor:
    if reading.place is None:
        return result
    place = reading.place.to(result.device)[:, None]
    return result.flatten(2).gather(2, place.expand(*result.shape[:2], -1))


def _fusable(call: AttentionCall, group: Sequence[LayerScore]) -> bool:
    length = call.query.shape[2]
    return (
        fused.serves(call, _dtype(group))
        and all(each.kind != "argmax" for each in group)
        and group[0].queries.shape[1] * _FEW > length
    )


def _dtype(readings: Sequence[LayerScore]) -> torch.dtype:
    # (i - j)^2 of a near key is the small difference of large squares: float32 would lose it.
    return torch.float64 if any(each.kind == "distance" for each in readings) else torch.float32


def _in_blocks(call: AttentionCall, group: Sequence[LayerScore], norms: dict[Norm, Tensor]) -> list[Tensor]:
    """Scores for the same queries, computed in blocks of rows of bounded size."""
    queries = group[0].queries.to(call.query.device)
    batch, heads = call.query.shape[:2]
    size = max(1, BLOCK // (batch * heads * call.key.shape[2]))
    parts: list[list[Tensor]] = [[] for _ in group]
    for start in range(0, queries.shape[1], size):
        part = slice(start, start + size)
        seen = None if call.pattern is not None else int(queries[:, part].max()) + 1  # an edit may put weight ahead
        pattern = attention_rows(call, queries[:, part], seen)
        for reading, done in zip(group, parts, strict=True):
            done.append(_of_rows(reading, pattern, part, queries, norms))
    return [torch.cat(done, 2) for done in parts]


def _of_rows(reading: LayerScore, pattern: Tensor, part: slice, queries: Tensor, norms: dict[Norm, Tensor]) -> Tensor:
    """One score for the rows `part` of its queries, from their pattern [batch head row key]."""
    if reading.sinks is not None:
        pattern = patterns.without_sinks(pattern, reading.sinks.to(pattern.device))
    if reading.norm:
        pattern = patterns.value_weighted(pattern, norms[reading.norm][..., : pattern.shape[-1]])
    keys = None if reading.keys is None else reading.keys.to(pattern.device)
    if keys is not None and keys.ndim == 3:
        keys = keys[:, part]
    match reading.kind:
        case "weights":
            assert keys is not None
            return patterns.each_weight(pattern, keys)
        case "mass":
            return patterns.key_mass(pattern, keys)
        case "argmax":
            return patterns.argmax_key(pattern)
        case "entropy":
            return patterns.entropy(pattern)
        case "distance":
            return patterns.distance(pattern, queries[:, part])


def _in_one_pass(call: AttentionCall, readings: Sequence[LayerScore], norms: dict[Norm, Tensor]) -> list[Tensor]:
    """Scores by fused attention: one pass for all columns, and another for entropies."""
    device = call.query.device
    attention = fused.Fused(call, _dtype(readings))
    columns = [_columns(call, each, norms) for each in readings]
    sums = attention.sums([column for each in columns for column in each])  # one [batch head query] per column
    results, start = [], 0
    for reading, each in zip(readings, columns, strict=True):
        found = [attention.at_queries(one, reading.queries.to(device)) for one in sums[start : start + len(each)]]
        results.append(_of_sums(call, attention, reading, found, norms).float())
        start += len(each)
    return results


def _columns(call: AttentionCall, reading: LayerScore, norms: dict[Norm, Tensor]) -> list[Tensor]:
    """Columns to be summed over each row's weights: [batch 1|head key] each, the complement of the sinks last."""
    batch, _, length, _ = call.query.shape
    ones = torch.ones(batch, 1, length, device=call.query.device)
    if reading.kind == "distance":
        place = torch.arange(length, device=ones.device, dtype=torch.float64).expand_as(ones)
        return [place, place.square()]
    outside = ones if reading.sinks is None else ones - _set(call, reading.sinks)
    columns = []
    if reading.kind == "mass" and (reading.keys is None or reading.keys.ndim == 2):
        chosen = outside if reading.keys is None else outside * _set(call, reading.keys)
        columns.append(chosen * norms[reading.norm] if reading.norm else chosen)
    return columns if reading.sinks is None else [*columns, outside]


def _set(call: AttentionCall, keys: Tensor) -> Tensor:
    return patterns.indicator(keys.to(call.key.device), call.key.shape[2])[:, None]  # [batch 1 key]


def _at_keys(each: Tensor, keys: Tensor) -> Tensor:
    """Select keys [batch row key] from a tensor [batch 1|head key]: [batch 1|head row key]."""
    batch = max(len(each), len(keys))
    index = keys.clamp_min(0)[:, None].expand(batch, each.shape[1], -1, -1)
    return each[:, :, None].expand(batch, -1, keys.shape[1], -1).gather(-1, index)


def _of_sums(
    call: AttentionCall, attention: fused.Fused, reading: LayerScore, sums: list[Tensor], norms: dict[Norm, Tensor]
) -> Tensor:
    """One score, from the sums [batch head row] of its columns."""
    queries = reading.queries.to(call.query.device)
    if reading.kind == "entropy":
        return attention.at_queries(attention.entropy(), queries)
    if reading.kind == "distance":
        first, second = sums
        here = queries[:, None]
        return torch.stack([here - first, here.square() - 2 * here * first + second], -1).clamp_min(0)
    if reading.keys is None or reading.keys.ndim == 2:
        return sums[0] if reading.sinks is None else patterns.divided(*sums)
    keys = reading.keys.to(queries.device)
    weights = attention.weights(queries, keys)  # [batch head row key]
    if reading.norm:
        weights = weights * _at_keys(norms[reading.norm], keys)
    if reading.sinks is not None:
        kept = _at_keys(1.0 - _set(call, reading.sinks), keys)
        weights = patterns.divided(weights * kept, sums[-1][..., None])
    return weights if reading.kind == "weights" else weights.sum(-1)
