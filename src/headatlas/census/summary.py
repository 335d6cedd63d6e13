"""Sums up a census: key/value groups, stages, and how deep the labelled heads lie."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from headatlas.census.schema import (
    GroupLabel,
    GroupResult,
    HeadResult,
    Label,
    StageSummary,
    Summary,
    TypeResult,
)
from headatlas.evidence import statistics
from headatlas.evidence.record_parts import ModelRecord

COMMON = 0.2  # of the heads; a name that more of them carry says little of any one


def specific_first(labels: Sequence[Label], carried: Mapping[str, int]) -> list[Label]:
    """The names of a head, that which the fewest heads of the model carry first; `carried` counts them by type."""
    return sorted(labels, key=lambda label: carried[label.type])


def common_types(types: Sequence[TypeResult], heads: int) -> list[TypeResult]:
    """The types that more than a fifth of the heads carry: properties of the model, rather than kinds of heads."""
    return [each for each in types if len(each.heads) > COMMON * heads]


def depth(layer: int, layers: int) -> float:
    """How deep a layer lies: 0 the first, 1 the last; 0 where there is one alone."""
    return layer / (layers - 1) if layers > 1 else 0.0


def groups_of(model: ModelRecord, heads: Sequence[HeadResult]) -> list[GroupResult]:
    """The key/value groups, with the labels of their heads."""
    made = []
    for layer in range(model.layers):
        for group in range(model.kv_heads_in(layer)):
            mine = [head for head in heads if (head.layer, head.group) == (layer, group)]
            made.append(
                GroupResult(
                    layer=layer,
                    group=group,
                    heads=[head.head for head in mine],
                    depth=depth(layer, model.layers),
                    labels=_group_labels(mine),
                )
            )
    return made


def _group_labels(heads: Sequence[HeadResult]) -> list[GroupLabel]:
    by_type: dict[str, list[tuple[HeadResult, Label]]] = {}
    for head in heads:
        for label in head.labels:
            by_type.setdefault(label.type, []).append((head, label))
    return [
        GroupLabel(
            type=type,
            stage=mine[0][1].stage,
            heads=[head.head for head, _ in mine],
            score=max(label.score for _, label in mine),
            causal=next((label.causal for _, label in mine if label.causal != "not tested"), "not tested"),
        )
        for type, mine in by_type.items()
    ]


def summary_of(
    stages: Iterable[tuple[str, str, str]], types: Sequence[TypeResult], heads: Sequence[HeadResult]
) -> Summary:
    """The census in a few numbers; of every stage its id, short form and name."""
    labelled = sum(bool(head.labels) for head in heads)
    return Summary(
        heads=len(heads),
        labelled=labelled,
        unknown=len(heads) - labelled,
        unknown_share=(len(heads) - labelled) / len(heads),
        types_measured=sum(each.status == "measured" for each in types),
        types_found=sum(bool(each.heads) for each in types),
        types_supported=sum(each.causal == "supported" for each in types),
        did_not_hold=sum(len(head.did_not_hold) for head in heads),
        stages=[_stage(id, short, name, types, heads) for id, short, name in stages],
    )


def _stage(id: str, short: str, name: str, types: Sequence[TypeResult], heads: Sequence[HeadResult]) -> StageSummary:
    """Depth is averaged over labels, so that a head with two types of the stage counts twice."""
    depths = np.array([head.depth for head in heads for label in head.labels if label.stage == id])
    mean, low, high = statistics.mean_interval(depths)
    return StageSummary(
        stage=id,
        short=short,
        name=name,
        types=sum(bool(each.heads) for each in types if each.stage == id),
        labels=len(depths),
        heads=sum(any(label.stage == id for label in head.labels) for head in heads),
        mean_depth=mean,
        low=low,
        high=high,
    )
