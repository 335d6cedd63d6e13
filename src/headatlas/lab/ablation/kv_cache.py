"""Continues from the KV cache of a clean run, for several copies of the later positions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

from headatlas.lab.ablation.batched_copies import CopiesInBatch, CopiesInSequence
from headatlas.lab.ablation.clean_run import CleanRun
from headatlas.lab.hooks.attention_interface import given_masks
from headatlas.lab.hooks.module_hooks import telling
from headatlas.lab.loading.opened_model import OpenModel


class _Kept(DynamicLayer):  # type: ignore[misc]
    """One layer's clean keys and values; new ones are appended for attention but not stored."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        groups = key_states.shape[1] // self.keys.shape[1]  # Falcon caches a key of its own for each query head
        keys, values = (each.repeat_interleave(groups, 1) for each in (self.keys, self.values))
        return torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)


@contextmanager
def continue_from_cache(
    model: OpenModel, clean: CleanRun, layer: int, layout: CopiesInBatch | CopiesInSequence
) -> Iterator[None]:
    """While active, the model takes copies of the positions from `clean.start` on, preceded by the clean KV cache.

    Args:
        model: of the clean run.
        clean: its cache.
        layer: the first block that runs.
        layout: of the copies. In sequence they share one cache; in the batch each has its own.
    """
    cache = DynamicCache()
    attended = {layer: each.attended for layer, each in clean.layers.items() if each.attended}
    length, prefix = clean.tokens.shape[1], clean.start

    def kept(each: Tensor) -> Tensor:
        """The cache that the copies read, of keys or values [prompt kv_head position d_head]."""
        past = each[:, :, :prefix]
        return past if isinstance(layout, CopiesInSequence) else past.repeat(layout.copies, 1, 1, 1)

    cache.layers = [_Kept(kept(key), kept(value)) for key, value, _ in attended.values()]
    positions = torch.arange(prefix, length, device=model.device).expand(layout.copies, layout.prompts, -1)
    if clean.padding is not None:
        positions = positions - clean.padding.to(positions.device)[:, None]  # [copy prompt position]
    positions = layout.join(positions)
    masks: dict[int, Tensor] = {}  # layers share them
    given: dict[nn.Module, Tensor] = {}
    for at, (key, _, mask) in attended.items():
        if at < layer:
            continue
        if id(mask) not in masks:
            masks[id(mask)] = _mask(causal(length, key.device) if mask is None else mask, prefix, layout)
        given[model.anatomy.attention[at]] = masks[id(mask)].to(key.device)
    with ExitStack() as stack:
        stack.enter_context(telling(model.model, past_key_values=cache, position_ids=positions))
        stack.enter_context(given_masks(given))
        yield


def causal(length: int, device: torch.device) -> Tensor:
    """The mask of plain causal attention, [1 1 query key]; true where a query sees a key."""
    return torch.ones(1, 1, length, length, dtype=torch.bool, device=device).tril()


def _mask(mask: Tensor, start: int, layout: CopiesInBatch | CopiesInSequence) -> Tensor:
    """Turn the clean mask [prompt head query key] into one for copies: [prompt head copy*position past+copy*position].

    Each copy sees the clean past and itself, as in the clean mask, and no other copy.
    """
    length, copies = mask.shape[2], layout.copies
    rows = mask[:, :, start:, :length]  # a mask may be longer than the prompt
    if isinstance(layout, CopiesInBatch):
        return rows if len(rows) == 1 else rows.repeat(copies, 1, 1, 1)
    width = length - start
    hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    own = rows.new_full((*rows.shape[:2], copies, width, copies, width), hidden)
    each = torch.arange(copies, device=mask.device)
    own[:, :, each, :, each] = rows[..., start:]  # the indexed axes come first: [copy prompt head query key]
    past = rows[..., :start].repeat(1, 1, copies, 1)
    return torch.cat([past, own.flatten(4, 5).flatten(2, 3)], -1)
