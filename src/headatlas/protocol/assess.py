"""From what was measured to what a record says of it: detection, behaviour, cause, agreement with papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headatlas.catalog.schema import Finding, Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence import holding, records, statistics
from headatlas.lab import Scores
from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.notation import Head
from headatlas.protocol.script import Split

Array = NDArray[np.float64]


def of_heads(found: Scores, anatomy: Anatomy, called: str) -> Scores:
    """Scores with NaN where the model has no such head, whatever a script made of it.

    Args:
        found: of a script.
        anatomy: of the model.
        called: id of the script.

    Raises:
        HeadatlasError: where a head has no score; among those that do not exist it would be lost without a word.
    """
    there = np.zeros((anatomy.layers, anatomy.heads), dtype=bool)
    for head in anatomy.all_heads:
        there[head] = True
    for values in (found.score, found.null):
        known = np.isfinite(values).all(0)
        if lost := np.argwhere(there & ~known).tolist():
            raise HeadatlasError(
                f"the score of {called} is not a number for {Head(*lost[0])}; open the model in float32, or report it"
            )
    if there.all():
        return found
    score, control = (np.where(there, values, np.nan) for values in (found.score, found.null))
    return replace(
        found, score=score, null=control, sink=None if found.sink is None else np.where(there, found.sink, np.nan)
    )


def detection_of(
    rule: Rule, found: Mapping[Split, Scores], units: Mapping[Split, list[int]] | None = None
) -> records.Detection:
    """Select on `find`, measure on `test` and see which of those selected hold there, over the given units (or all)."""
    find, test = (found[split].only(units[split]) if units else found[split] for split in ("find", "test"))
    score, control, held, held_control = find.score, find.null, test.score, test.null
    q = statistics.q_values(statistics.above_control(score, control))
    threshold = rule.detection.threshold
    chosen = statistics.select(score.mean(0), q, threshold, rule.detection.fdr)
    selected, lost = holding.parted(chosen, held.mean(0).tolist(), held_control.mean(0).tolist(), threshold)
    low, high = statistics.interval(held)
    sink = None if test.sink is None else test.sink.mean(0)
    return records.Detection(
        metric=rule.detection.metric,
        threshold=threshold,
        fdr=rule.detection.fdr,
        null="one-sided paired t test of score minus control; Benjamini-Hochberg over all heads",
        n_find=len(score),
        n_test=len(held),
        find=records.grid(score.mean(0)),
        find_control=records.grid(control.mean(0)),
        q=records.grid(q),
        score=records.grid(held.mean(0)),
        low=records.grid(low),
        high=records.grid(high),
        control=records.grid(held_control.mean(0)),
        sink_normalised=None if sink is None else records.grid(_without_sink(held.mean(0), sink)),
        selected=[str(head) for head in selected],
        did_not_hold=[str(head) for head in lost],
    )


def _without_sink(score: Array, sink: Array) -> Array:
    """The share of a head's weight off the first position that goes where the score looks: [layer head]."""
    return np.clip(score / np.maximum(1.0 - sink, 1e-6), 0.0, 1.0)


def behaviour_of(rule: Rule, values: Array) -> records.Behaviour:
    """The behaviour of [prompt] values, held against the rule."""
    low, high = statistics.interval(values)
    return records.Behaviour(
        metric=rule.behaviour.metric,
        unit=rule.behaviour.unit,
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        chance=rule.behaviour.chance,
        minimum=rule.behaviour.minimum,
        n=len(values),
        passed=bool(low > max(rule.behaviour.chance, rule.behaviour.minimum)),
    )


@dataclass(frozen=True)
class Effects:
    """What intervening does to the behaviour, per prompt: signed so that the claimed direction is positive."""

    selected: Array  # [prompt]
    alone: dict[str, Array]  # head -> [prompt]
    random: Array  # [set prompt]
    matched: statistics.MatchedSets

    def cause(self, rule: Rule, prompts: slice | list[int]) -> records.Cause:
        """The causal evidence over the given prompts."""
        mine, others = self.selected[prompts], self.random[:, prompts].mean(1)
        low, high = statistics.interval(mine)
        share, p = statistics.exceeds(float(mine.mean()), [float(other) for other in others])
        return records.Cause(
            intervention=rule.cause.intervention,
            direction=rule.cause.direction,
            n=len(mine),
            effect=float(mine.mean()),
            low=float(low),
            high=float(high),
            matching=self.matched.matching,
            distinct_sets=self.matched.distinct,
            random_effects=[float(other) for other in others],
            share_exceeded=share,
            p=p,
            alone=[
                records.HeadEffect(head=head, effect=float(effect[prompts].mean()))
                for head, effect in self.alone.items()
            ],
            passed=bool(low > 0 and share > rule.cause.percentile and len(others) >= statistics.ENOUGH_SETS),
        )


def literature_of(detection: records.Detection, findings: Sequence[Finding]) -> records.Literature:
    """What papers say of this very model, beside what was measured."""
    every = sum(len(row) for row in detection.score)
    reported = {str(h) for f in findings if f.stance == "supports" for h in f.heads}
    shared = reported & set(detection.selected)
    p = None
    if reported:
        p = statistics.overlap_p(len(detection.selected), len(reported), len(shared), every)
    return records.Literature(
        findings=[_compare(detection, finding) for finding in findings],
        reported_heads=sorted(reported, key=Head.parse),
        shared=sorted(shared, key=Head.parse),
        overlap_p=p,
    )


def _compare(detection: records.Detection, finding: Finding) -> records.Compared:
    measured = agrees = None
    head = finding.heads[0] if finding.heads else None
    known = head is not None and head.layer < len(detection.score) and head.head < len(detection.score[head.layer])
    if finding.tolerance is not None and finding.value is not None and head and known:
        measured = detection.score[head.layer][head.head]
        agrees = abs(measured - finding.value) <= finding.tolerance
    return records.Compared(
        finding=finding.id,
        source=finding.source,
        heads=[str(head) for head in finding.heads],
        reported=finding.value,
        measured=measured,
        tolerance=finding.tolerance,
        agrees=agrees,
    )
