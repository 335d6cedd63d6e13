"""Fused attention that returns each row's log-sum-exp, for fast scores of whole prompts in linear memory.

PyTorch's kernels are private operators whose limits differ by device, dtype and head size. Each is tested on a small
problem before use; `serves` is False if none matches a softmax.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from headatlas.lab.hooks.attention_interface import AttentionCall

# query, key, value [batch head position d_head], scaling -> output like query, log-sum-exp [batch head query]; causal
Kernel = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
_TOLERANCE = 1e-5
_GATHERED = 2**21  # numbers gathered at once to compute individual weights


def _on_cpu(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, logsumexp = operator(query, key, value, 0.0, True, scale=scaling)
    return output, logsumexp


def _on_cuda(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    operator = torch.ops.aten._scaled_dot_product_efficient_attention  # its flash sibling has no float32
    output, logsumexp, *_ = operator(query, key, value, None, True, 0.0, True, scale=scaling)
    return output, logsumexp[..., : query.shape[2]]  # padded to a multiple of 32 queries


@cache
def _kernel(device: torch.device, dtype: torch.dtype, d_head: int) -> Kernel | None:
    """A kernel that passes the test for this device, dtype and head size, or None."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 40, d_head, generator=generator).to(device, dtype) for heads in (3, 1, 1)
    )
    key, value = key.expand_as(query), value.expand_as(query)
    scaling = d_head**-0.5
    ahead = torch.ones(40, 40, dtype=torch.bool, device=device).triu(1)
    scores = (query @ key.mT * scaling).masked_fill(ahead, float("-inf"))
    expected = scores.softmax(-1) @ value, scores.logsumexp(-1)
    for kernel in (_on_cpu, _on_cuda):
        try:
            found = kernel(query, key, value, scaling)
        except (AttributeError, RuntimeError):  # missing in this PyTorch, or unsupported device, dtype or size
            continue
        if all(
            one.shape == other.shape and bool((one - other).abs().max() < _TOLERANCE)
            for one, other in zip(found, expected, strict=True)
        ):
            return kernel
    return None


def serves(call: AttentionCall, dtype: torch.dtype) -> bool:
    """Whether a layer's attention has no feature that fused kernels lack, and a kernel works for it."""
    plain = call.mask is None and call.softcap is None and call.sinks is None and call.pattern is None
    same = call.query.shape[2:] == call.key.shape[2:]
    return plain and same and _kernel(call.query.device, dtype, call.query.shape[-1]) is not None


class Fused:
    """One layer's attention, for sums over rows and individual weights.

    Args:
        call: a call for which `serves` is True.
        dtype: to compute in.
    """

    def __init__(self, call: AttentionCall, dtype: torch.dtype) -> None:
        self._batch, self._heads, _, self._width = call.query.shape
        self._kv_heads = call.key.shape[1]
        self._scaling = call.scaling
        # Subtract the mean key: it shifts all scores of a row equally, so weights do not change, and smaller scores
        # lose less precision in exp(score - logsumexp) and in the entropy.
        key = call.key.to(dtype)
        key = key - key.mean(2, keepdim=True)
        # Query heads sharing a key are laid out along the head axis, key heads along the batch: nothing is copied.
        self._query = call.query.to(dtype).reshape(self._batch * self._kv_heads, -1, *call.query.shape[2:])
        self._key = key.flatten(0, 1)[:, None]  # [batch*kv_head 1 key d_head]
        self._logsumexp: Tensor | None = None

    def _attend(self, columns: Tensor) -> Tensor:
        """Sum columns [batch*kv_head 1|group key column] over each row: [batch*kv_head group query column].

        At most d_head columns; they are padded to d_head, as kernels require.
        """
        kernel = _kernel(self._query.device, self._query.dtype, self._width)
        assert kernel is not None
        wide = pad(columns, (0, self._width - columns.shape[-1])).expand(-1, self._query.shape[1], -1, -1)
        output, logsumexp = kernel(self._query, self._key.expand_as(self._query), wide, self._scaling)
        self._logsumexp = logsumexp.to(self._query.dtype)
        return output[..., : columns.shape[-1]]

    def sums(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """sum_j p_ij c_j of each column c [batch 1|head key]: [batch head query] each, in as few passes as possible."""
        found: list[Tensor] = []
        for start in range(0, len(columns), self._width):
            chunk = [self._by_group(column.to(self._query)) for column in columns[start : start + self._width]]
            group = max(column.shape[1] for column in chunk)
            sums = self._attend(torch.stack([column.expand(-1, group, -1) for column in chunk], -1))
            found += [one.reshape(self._batch, self._heads, -1) for one in sums.unbind(-1)]
        return found

    def _by_group(self, column: Tensor) -> Tensor:
        """[batch 1|head key] -> [batch*kv_head 1|group key]"""
        batch, heads, length = column.shape
        if heads == 1:
            return column.expand(batch, self._kv_heads, length).reshape(-1, 1, length)
        return column.reshape(batch * self._kv_heads, -1, length)

    def entropy(self) -> Tensor:
        """- sum_j p_ij ln p_ij = logsumexp_i - scaling q_i . sum_j p_ij k_j, in nats: [batch head query].

        As exact as a softmax in the same dtype: in both, rounding errors grow with the size of the scores.
        """
        mean_key = self._attend(self._key)  # [batch*kv_head group query d_head]
        assert self._logsumexp is not None
        mean_score = (self._query * mean_key).sum(-1) * self._scaling
        return (self._logsumexp - mean_score).clamp_min(0).reshape(self._batch, self._heads, -1)

    def weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """p_ij of queries [batch row] at given keys [batch row key]; 0 where the key is -1.

        Returns:
            [batch head row key]
        """
        if self._logsumexp is None:
            self._attend(self._key[..., :1])
        keys = keys.expand(self._batch, -1, -1)
        size = max(1, _GATHERED // (self._batch * self._heads * keys.shape[2] * self._width))
        parts = [
            self._few_weights(queries[:, start : start + size], keys[:, start : start + size])
            for start in range(0, queries.shape[1], size)
        ]
        return torch.cat(parts, 2)

    def _few_weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        assert self._logsumexp is not None
        chosen = keys.clamp_min(0).flatten(1).repeat_interleave(self._kv_heads, 0)[:, None, :, None]
        key = self._key.gather(2, chosen.expand(-1, 1, -1, self._width))
        key = key.view(*key.shape[:2], *keys.shape[1:], self._width)  # [batch*kv_head 1 row key d_head]
        query = self.at_queries(self._query.reshape(self._batch, self._heads, -1, self._width), queries)
        query = query.reshape(*self._query.shape[:2], -1, 1, self._width)
        scores = ((query * key).sum(-1) * self._scaling).reshape(self._batch, self._heads, *keys.shape[1:])
        logsumexp = self.at_queries(self._logsumexp.reshape(self._batch, self._heads, -1), queries)
        weights: Tensor = (scores - logsumexp[..., None]).exp() * (keys >= 0)[:, None]
        return weights

    @staticmethod
    def at_queries(each: Tensor, queries: Tensor) -> Tensor:
        """Select queries [batch row] from a tensor [batch head query ...]: [batch head row ...]."""
        index = queries[:, None].expand(*each.shape[:2], -1)
        index = index if each.ndim == 3 else index[..., None].expand(*index.shape, each.shape[3])
        return each.gather(2, index)
