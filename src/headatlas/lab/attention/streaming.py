"""Scores of all heads in one forward pass, without storing attention patterns.

Name each score and describe it with a frozen object:

    score_heads(model, tokens, {"previous": PairWeight(pairs), "sink": SinkMass(), "entropy": Entropy()})

Every score also has `of_pattern`, which computes the same number from a stored pattern. Pairs and keys are nested lists
or tensors of positions, the same for all prompts or prompt by prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.attention import patterns
from headatlas.lab.attention.layer_scores import LayerScore, Norm, read_scores
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running import token_positions
from headatlas.lab.running.forward import run_layers
from headatlas.lab.running.token_positions import PositionsLike


class HeadScore(Protocol):
    """A score to measure for every head."""

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        """The per-layer score, for prompts of `length` tokens; queries [batch row] are the requested ones."""

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]; norms [batch head key] for scores with a `norm`."""


@dataclass(frozen=True, eq=False)
class PairWeight:
    """Attention weight at (query, key) pairs: [batch layer head pair].

    Attributes:
        pairs: [pair 2] or [batch pair 2], of any queries; no key lies ahead of its query.
        sinks: [key] or [batch key]; positions to exclude, renormalising the remaining weights.
        norm: multiply by the norm of the key's 'value', or of its 'output', the value times the head's W_O.
    """

    pairs: PositionsLike
    sinks: PositionsLike | None = None
    norm: Norm | None = None

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        grouped = token_positions.by_query(token_positions.pairs(self.pairs, len(queries), length))
        sinks = _sinks(self.sinks, queries, length)
        return LayerScore("weights", grouped.queries, grouped.keys, sinks, self.norm, grouped.place)

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]: [batch head pair]."""
        pairs = token_positions.pairs(self.pairs, *pattern.shape[::2])
        return patterns.pair_weight(_varied(pattern, self.sinks, self.norm, norms), pairs)


@dataclass(frozen=True, eq=False)
class KeyMass:
    """Total weight of each query on a set of keys: [batch layer head query].

    Attributes:
        keys: the set [key]; one per prompt [batch key]; or one per requested query [batch query key], none ahead of the
            query. Padded with -1; repeated keys count once; None means all keys.
        sinks, norm: as in `PairWeight`.
    """

    keys: PositionsLike | None
    sinks: PositionsLike | None = None
    norm: Norm | None = None

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        keys = None if self.keys is None else token_positions.keys(self.keys, queries, length)
        return LayerScore("mass", queries, keys, _sinks(self.sinks, queries, length), self.norm)

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]: [batch head query]."""
        queries = token_positions.queries(None, *pattern.shape[::2])
        keys = None if self.keys is None else token_positions.keys(self.keys, queries, pattern.shape[-1])
        return patterns.key_mass(_varied(pattern, self.sinks, self.norm, norms), keys)


@dataclass(frozen=True, eq=False)
class SinkMass(KeyMass):
    """Total weight of each query on the attention sinks, by default the first position: [batch layer head query]."""

    keys: PositionsLike | None = (0,)


@dataclass(frozen=True, eq=False)
class ArgmaxKey:
    """The key with the largest weight, the first one on ties: [batch layer head query], int64."""

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        return LayerScore("argmax", queries)

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]: [batch head query]."""
        return patterns.argmax_key(pattern)


@dataclass(frozen=True, eq=False)
class Entropy:
    """Entropy of each attention row, in nats: [batch layer head query]."""

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        return LayerScore("entropy", queries)

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]: [batch head query]."""
        return patterns.entropy(pattern)


@dataclass(frozen=True, eq=False)
class Distance:
    """First and second moment of the attention distance (query - key): [batch layer head query 2]."""

    def reading(self, length: int, queries: Tensor) -> LayerScore:
        return LayerScore("distance", queries)

    def of_pattern(self, pattern: Tensor, norms: Tensor | None = None) -> Tensor:
        """The score of a full pattern [batch head query key]: [batch head query 2]."""
        return patterns.distance(pattern)


def _sinks(sinks: PositionsLike | None, queries: Tensor, length: int) -> Tensor | None:
    return None if sinks is None else token_positions.keys(sinks, queries, length, per_query=False)


def _varied(pattern: Tensor, sinks: PositionsLike | None, norm: Norm | None, norms: Tensor | None) -> Tensor:
    """Apply `sinks` and `norm` to a pattern, if given."""
    if (norm is None) != (norms is None):
        raise ValueError("norms [batch head key] go with a score that has `norm`, and only with such a score")
    if sinks is not None:
        queries = token_positions.queries(None, *pattern.shape[::2])
        pattern = patterns.without_sinks(
            pattern, token_positions.keys(sinks, queries, pattern.shape[-1], per_query=False)
        )
    return pattern if norms is None else patterns.value_weighted(pattern, norms)


def score_heads(
    model: OpenModel,
    tokens: Tensor | Sequence[Sequence[int]],
    scores: Mapping[str, HeadScore],
    positions: PositionsLike | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Measure every head in one forward pass, in memory linear in prompt length.

    Args:
        model: to run.
        tokens: [batch position], prompts of equal length.
        scores: what to measure, by name.
        positions: query positions to score, [row] or [batch row]; all by default. `PairWeight` names its own.
        progress: called with 1 after each layer.

    Returns:
        By name: [batch layer head query] or as the score's class says, float32 on the CPU. Heads that do not exist
        (layers without attention, or with fewer heads than others) are NaN, and -1 for `ArgmaxKey`.

    Raises:
        HeadatlasError: for no scores, prompts that differ in length or do not fit, positions outside the prompt, keys
            ahead of their query, or non-finite weights.
    """
    if not scores:
        raise HeadatlasError("no scores to measure; name at least one, such as {'sink': SinkMass()}")
    prompts = token_positions.prompts(tokens, model.context)  # [batch position]
    length = prompts.shape[1]
    queries = token_positions.queries(positions, len(prompts), length)
    readings = [score.reading(length, queries) for score in scores.values()]
    found: dict[int, list[Tensor]] = {}

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            found[layer] = [each.cpu() for each in read_scores(call, readings, model.anatomy.w_o(layer))]
            if progress:
                progress(1)

        return look

    run_layers(model, prompts, hook)
    return {
        name: _checked(model, name, {layer: each[number] for layer, each in found.items()})
        for number, name in enumerate(scores)
    }


def _checked(model: OpenModel, name: str, by_layer: dict[int, Tensor]) -> Tensor:
    if not all(torch.isfinite(each).all() for each in by_layer.values()):
        raise HeadatlasError(f"{model.name}: {name} has NaN or infinite numbers; try float32, or check its weights")
    return model.anatomy.stack(by_layer, 1)
