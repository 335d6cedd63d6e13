"""Recomputes attention with edited edges or weights, for the edited heads and rows only."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.activations.edits import Edit
from headatlas.lab.activations.sites import Where, located, union
from headatlas.lab.hooks import row_weights
from headatlas.lab.hooks.attention_interface import AttentionCall


@dataclass(frozen=True)
class LayerEdit:
    """An edit at one layer.

    Attributes:
        edit: the edit.
        layer: the layer.
        total: number of heads at the site in this layer.
        note: called each time the edit is applied.
    """

    edit: Edit
    layer: int
    total: int
    note: Callable[[], None]

    def where(self, batch: int, length: int) -> Where:
        """The part of the site that the edit changes, for `batch` prompts of `length` tokens."""
        heads = torch.tensor(self.edit.heads[self.layer])
        positions = located(self.edit.positions, batch, length)
        return Where(self.edit.site, self.layer, heads, self.total, positions)

    def __call__(
        self, x: Tensor, length: int | None = None, rows: Tensor | None = None, heads: Tensor | None = None
    ) -> Tensor:
        """Apply the edit to x [batch position head feature], which has all positions and heads, or sorted subsets."""
        where = self.where(len(x), x.shape[1] if length is None else length)
        index = place(where, x.device, rows, heads)
        part = x[index]
        changed = self.edit.change(part, where)
        if changed.shape != part.shape:
            raise HeadatlasError(
                f"{self.edit}: {tuple(part.shape)} would become {tuple(changed.shape)} [batch position head feature]; "
                "record it on the same model, with prompts of the same length"
            )
        self.note()
        return x.index_put(index, changed.to(x))


def place(where: Where, device: torch.device, rows: Tensor | None, heads: Tensor | None) -> tuple[Tensor, ...]:
    """Index of `where` into [batch position head ...], which has all positions and heads, or sorted subsets."""
    positions, chosen = where.positions.contiguous(), where.heads
    if rows is not None:
        positions = torch.searchsorted(rows.cpu(), positions)
    if heads is not None:
        chosen = torch.searchsorted(heads.cpu(), chosen)
    prompts = torch.arange(len(positions))
    return tuple(each.to(device) for each in (prompts[:, None, None], positions[:, :, None], chosen))


@dataclass(frozen=True)
class PatternEdits:
    """Knockouts, then edits of attention weights, each in list order."""

    edits: tuple[LayerEdit, ...]

    def rows(self, call: AttentionCall, heads: Tensor, positions: Tensor) -> Tensor:
        """Attention weights in use: [batch row head key], float32. See `EditedPattern`."""
        batch, _, length, _ = call.query.shape
        wheres = [edit.where(batch, length) for edit in self.edits]
        every = union([heads, *(where.heads for where in wheres)])
        rows = union([positions, *(where.positions for where in wheres)])
        pattern = self._pattern(call, every, rows)
        return pattern[:, torch.searchsorted(rows, positions.cpu())][:, :, torch.searchsorted(every, heads.cpu())]

    def attend(self, call: AttentionCall, z: Tensor) -> Tensor:
        """z with the edited rows recomputed; all other rows stay bit-identical."""
        batch, length, total, _ = z.shape
        wheres = [edit.where(batch, length) for edit in self.edits]
        heads = union(where.heads for where in wheres)
        rows = union(where.positions for where in wheres)
        value = call.value[:, _shared(call.value, heads, total)]  # [batch head key d_head]
        found = torch.einsum("brhk,bhkd->brhd", self._pattern(call, heads, rows), value.float()).to(z)
        touched = torch.zeros(found.shape[:3], dtype=torch.bool, device=z.device)
        for where in wheres:
            touched[place(where, z.device, rows, heads)] = True
        index = (slice(None), rows.to(z.device)[:, None], heads.to(z.device))
        changed = z.clone()
        changed[index] = torch.where(touched[..., None], found, z[index])
        return changed

    def _pattern(self, call: AttentionCall, heads: Tensor, rows: Tensor) -> Tensor:
        """[batch row head key] of sorted heads and rows, which must include those of every edit."""
        length = call.query.shape[2]
        if length != call.key.shape[2]:
            raise HeadatlasError("attention is edited over a whole prompt at once; run it with use_cache=False")
        allowed, bias = _edges(call, heads, rows)  # [batch head row key]
        for edit in self.edits:
            if edit.edit.site == "scores":
                allowed = edit(allowed.transpose(1, 2), length, rows, heads).transpose(1, 2)
        some = allowed.any(-1, keepdim=True)  # a row with no visible key becomes zero, without passing through NaN
        narrowed = replace(
            call,
            query=call.query[:, heads][:, :, rows],
            key=call.key[:, _shared(call.key, heads, call.query.shape[1])],
            mask=bias.masked_fill(some & ~allowed, float("-inf")),
            sinks=None if call.sinks is None else call.sinks[heads],
            pattern=None,
        )
        places = torch.arange(len(rows), device=call.query.device).expand(len(call.query), -1)
        pattern = row_weights.attention_rows(narrowed, places).masked_fill(~some, 0.0).transpose(1, 2)
        for edit in self.edits:
            if edit.edit.site == "pattern":
                pattern = edit(pattern, length, rows, heads)
        return pattern


def rows_of_heads(call: AttentionCall, heads: Tensor, positions: Tensor) -> Tensor:
    """Attention weights in use, edited or not: [batch row head key] in float32.

    Args:
        call: one layer's attention call.
        heads: [head], sorted.
        positions: [row], query positions, sorted.
    """
    return (call.pattern or PatternEdits(())).rows(call, heads, positions)


def _shared(tensor: Tensor, heads: Tensor, total: int) -> Tensor:
    """Select the key/value heads [batch kv_head ...] that the given query heads read."""
    return (heads * tensor.shape[1] // total).to(tensor.device)


def _edges(call: AttentionCall, heads: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Visibility of each key and the bias added to its score: both [batch head row key]."""
    device, keys = call.query.device, call.key.shape[2]
    shape = (len(call.query), len(heads), len(rows), keys)
    if call.mask is None:
        allowed = torch.arange(keys, device=device) <= rows.to(device)[:, None]
        return allowed.expand(shape), torch.zeros((), device=device).expand(shape)
    mask = call.mask[:, :, rows.to(call.mask.device), :keys]
    mask = (mask if mask.shape[1] == 1 else mask[:, heads]).expand(shape)
    if mask.dtype == torch.bool:
        return mask, torch.zeros((), device=device).expand(shape)
    return mask > torch.finfo(mask.dtype).min / 2, mask.float()
