"""Makes the parts of a record from numbers: behaviour, detection, cause, and agreement with papers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headatlas.arrays import Array
from headatlas.catalog.schema import Finding, Rule
from headatlas.evidence import held_out, record_parts, records, statistics
from headatlas.evidence.sequential import ENOUGH_SETS
from headatlas.lab import Scores
from headatlas.notation import Head
from headatlas.protocol.interventions import Effects
from headatlas.protocol.measure import Measured
from headatlas.protocol.script import Split


@dataclass(frozen=True)
class Selection:
    """What the prompts that select heads say, before any other prompt is read.

    Attributes:
        score: the mean score, [layer head].
        p: that the score exceeds its null, [layer head].
        q: p adjusted over all heads of the model, [layer head].
    """

    score: Array
    p: Array
    q: Array

    def heads(self, rule: Rule) -> list[Head]:
        """The selected heads, best first."""
        return statistics.select(self.score, self.q, rule.detection.threshold, rule.detection.fdr)

    def any_candidate(self, rule: Rule) -> bool:
        """Whether a head may be selected, however many others are tested with it."""
        return bool(((self.score >= rule.detection.threshold) & (self.p <= rule.detection.fdr)).any())

    def undecided(self, rule: Rule) -> bool:
        """Whether a head reaches the threshold but not significance, so that more prompts are needed."""
        return bool(((self.score >= rule.detection.threshold) & (self.q > rule.detection.fdr)).any())


def selection_of(found: Scores) -> Selection:
    """Compare the scores of the prompts that select heads with their null."""
    p = statistics.p_above_null(found.score, found.null)
    return Selection(found.score.mean(0), p, statistics.q_values(p))


def heads_that_hold(rule: Rule, selection: Selection, test: Scores) -> tuple[list[Head], list[Head]]:
    """The selected heads that hold on the prompts that test them, best first; and those that do not."""
    score, null = (each.mean(0).tolist() for each in (test.score, test.null))
    return held_out.split_by_held_out(selection.heads(rule), score, null, rule.detection.threshold)


@dataclass(frozen=True)
class Assessed:
    """The parts of a record that say what was found; `unscored` says why there is no detection."""

    behaviour: records.Behaviour
    detection: records.Detection | None
    cause: records.Cause | None
    literature: records.Literature
    unscored: str = ""


def assess(rule: Rule, measured: Measured, findings: Sequence[Finding], family: str | None = None) -> Assessed:
    """Make the parts of a record from the numbers of a run.

    Args:
        rule: of the entry.
        measured: the numbers.
        findings: what papers report of this model.
        family: assess the prompts of one family only. The cause is that of the heads selected over all families; scores
            that are not per prompt are assessed whole.
    """
    stimuli, scores = measured.stimuli, dict(measured.scores)
    task, moved = stimuli.task, measured.moved or stimuli.task
    numbers, those = (None if family is None else each.of_family(family) for each in (task, moved))
    behaviour = behaviour_of(rule, measured.behaviour if numbers is None else measured.behaviour[numbers])
    if measured.unscored:
        return Assessed(behaviour, None, None, literature_of(None, findings), measured.unscored)
    if family is not None and scores["find"].per == "prompt":
        scores = {split: each.only(stimuli.of(split).of_family(family)) for split, each in scores.items()}
    detection = detection_of(rule, scores)
    return Assessed(
        behaviour,
        detection,
        cause_of(rule, measured.effects, those) if measured.effects else None,
        literature_of(detection, findings),
    )


def detection_of(rule: Rule, found: Mapping[Split, Scores]) -> records.Detection:
    """Select heads on `find`, measure them on `test`, and see which of the selected hold there."""
    find, test = found["find"], found["test"]
    selection, threshold = selection_of(find), rule.detection.threshold
    held, held_null = test.score, test.null
    selected, lost = heads_that_hold(rule, selection, test)
    low, high = statistics.interval(held)
    sink = None if test.sink is None else test.sink.mean(0)
    return records.Detection(
        metric=rule.detection.metric,
        threshold=threshold,
        fdr=rule.detection.fdr,
        null="one-sided paired t test of score minus control; Benjamini-Hochberg over all heads",
        n_find=len(find.score),
        n_test=len(held),
        find=record_parts.grid(selection.score),
        find_control=record_parts.grid(find.null.mean(0)),
        q=record_parts.grid(selection.q),
        score=record_parts.grid(held.mean(0)),
        low=record_parts.grid(low),
        high=record_parts.grid(high),
        control=record_parts.grid(held_null.mean(0)),
        sink_normalised=None if sink is None else record_parts.grid(_without_sink(held.mean(0), sink)),
        selected=[str(head) for head in selected],
        did_not_hold=[str(head) for head in lost],
    )


def _without_sink(score: Array, sink: Array) -> Array:
    """The share of a head's weight off the first position that goes where the score looks: [layer head]."""
    return np.clip(score / np.maximum(1.0 - sink, 1e-6), 0.0, 1.0)


def behaviour_of(rule: Rule, values: Array) -> records.Behaviour:
    """Compare the metric of the behaviour, [prompt], with the rule's chance and minimum."""
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


def cause_of(rule: Rule, effects: Effects, numbers: Sequence[int] | None = None) -> records.Cause | None:
    """The causal evidence of interventions.

    Args:
        rule: of the entry.
        effects: of the interventions.
        numbers: of the prompts to go by; all that were read by default. The p value of all is that of the whole
            sequential test; that of some takes the number of random sets as given.

    Returns:
        None where fewer than two of these prompts were read.
    """
    wanted = set(effects.numbers if numbers is None else numbers)
    columns = [column for column, each in enumerate(effects.numbers) if each in wanted]
    if len(columns) < 2:
        return None
    mine, others = effects.selected[columns], [float(each) for each in effects.random_means(columns)]
    low, high = statistics.interval(mine)
    share, p = statistics.exceeds(float(mine.mean()), others)
    stopped = ""
    if numbers is None:
        count, reached = len(others), statistics.count_reaching(float(mine.mean()), others)
        p, stopped = effects.rule.p(count, reached), effects.rule.reason(count, reached)
    return records.Cause(
        intervention=rule.cause.intervention,
        direction=rule.cause.direction,
        n=len(mine),
        planned_n=effects.planned if numbers is None else len(numbers),
        effect=float(mine.mean()),
        low=float(low),
        high=float(high),
        matching=effects.matched.matching,
        distinct_sets=effects.matched.distinct,
        planned_sets=effects.rule.most,
        random_effects=others,
        on_a_third=int(np.isnan(effects.random).any(1).sum()),
        stopped=stopped,
        share_exceeded=share,
        p=p,
        alone=[
            records.HeadEffect(head=head, effect=float(effect[columns].mean()))
            for head, effect in effects.alone.items()
        ],
        passed=bool(low > 0 and p <= 1 - rule.cause.percentile / 100 + 1e-12 and len(others) >= ENOUGH_SETS),
    )


def literature_of(detection: records.Detection | None, findings: Sequence[Finding]) -> records.Literature:
    """What papers say of this very model, beside what was measured, if anything was."""
    reported = {str(h) for f in findings if f.stance == "supports" for h in f.heads}
    shared = reported & set(detection.selected) if detection else set()
    p = None
    if reported and detection:
        every = sum(len(row) for row in detection.score)
        p = statistics.overlap_p(len(detection.selected), len(reported), len(shared), every)
    return records.Literature(
        findings=[compared for finding in findings for compared in _compare(detection, finding)],
        reported_heads=sorted(reported, key=Head.parse),
        shared=sorted(shared, key=Head.parse),
        overlap_p=p,
    )


def _compare(detection: records.Detection | None, finding: Finding) -> list[records.Compared]:
    """A finding beside our measurement: head by head where its scores can be compared with ours."""
    if finding.tolerance is not None and finding.scores:
        return [_beside(detection, finding, [Head.parse(name)], score) for name, score in finding.scores.items()]
    return [_beside(detection, finding, finding.heads, finding.value)]


def _beside(
    detection: records.Detection | None, finding: Finding, heads: Sequence[Head], reported: float | None
) -> records.Compared:
    measured = agrees = None
    score = detection.score if detection else []
    if finding.tolerance is not None and reported is not None and len(heads) == 1:
        [head] = heads
        if head.layer < len(score) and head.head < len(score[head.layer]):
            measured = score[head.layer][head.head]
            agrees = abs(measured - reported) <= finding.tolerance
    return records.Compared(
        finding=finding.id,
        source=finding.source,
        heads=[str(head) for head in heads],
        reported=reported,
        measured=measured,
        tolerance=finding.tolerance,
        agrees=agrees,
    )
