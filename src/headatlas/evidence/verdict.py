"""Decides the verdict of a run (reproduced, partly, not-reproduced, inconclusive), and states the reasons."""

from collections.abc import Sequence

from headatlas.evidence.records import Behaviour, Cause, Detection, Literature, Verdict

_ALPHA = 0.05
_SHOWN = 6  # heads of a list
_NO_SETS = "no random set of as many other heads exists in this model, so cause could not be tested"
_DOING = {
    "zero": "ablating them (zero)",
    "mean": "ablating them (mean)",
    "resample": "ablating them (resample)",
    "steer": "steering along their directions",
    "patch": "patching them from another run",
}


def judge(
    behaviour: Behaviour,
    detection: Detection | None,
    cause: Cause | None,
    literature: Literature,
    untested: str = _NO_SETS,
    unscored: str = "",
) -> Verdict:
    """Weigh a run by the rules of the evidence standard.

    `inconclusive` where the model lacks the behaviour or the stimuli are too few to tell; `not-reproduced` where
    the behaviour is there and no head is; `reproduced` where heads are found, intervening on them moves the
    behaviour more than matched random sets, and the heads that papers name for this model are among them;
    `partly` where some of this holds.

    Args:
        behaviour, detection, literature: of the run.
        cause: of the heads found, where it was tested.
        untested: why it was not, where heads are found.
        unscored: why there is no detection, where it is None: the model lacks the behaviour.
    """
    reasons = [_say_behaviour(behaviour), _say_detection(detection) if detection else f"no head was scored: {unscored}"]
    if detection is None or not behaviour.passed:
        reasons.append("without the behaviour the finding cannot be tested on this model")
        return Verdict(label="inconclusive", reasons=reasons)
    if not detection.selected:
        if detection.undecided:
            reasons.append("some heads reach the threshold but not significantly: more stimuli are needed")
            return Verdict(label="inconclusive", reasons=reasons)
        if detection.unsettled:
            reasons.append("the interval of some of them still reaches the threshold: more stimuli are needed")
            return Verdict(label="inconclusive", reasons=reasons)
        return Verdict(label="not-reproduced", reasons=reasons)
    reasons.append(_say_cause(cause) if cause else untested)
    agrees = literature.overlap_p is None or literature.overlap_p < _ALPHA
    if literature.overlap_p is not None:
        reasons.append(_say_literature(literature))
    complete = cause is not None and cause.passed and agrees
    return Verdict(label="reproduced" if complete else "partly", reasons=reasons)


def untestable(reason: str) -> Verdict:
    """The verdict where the stimuli could not even be made for this model."""
    return Verdict(label="inconclusive", reasons=[f"the stimuli cannot be made: {reason}"])


def _say_behaviour(behaviour: Behaviour) -> str:
    word = "present" if behaviour.passed else "absent"
    unit = "" if behaviour.unit == "fraction" else f"{behaviour.unit} "
    return (
        f"behaviour {word}: {behaviour.metric} is {behaviour.value:.3g} {unit}"
        f"[{behaviour.low:.3g}, {behaviour.high:.3g}], chance {behaviour.chance:g}, needed {behaviour.minimum:g}"
    )


def _say_detection(detection: Detection) -> str:
    count, lost = sum(len(row) for row in detection.find), detection.did_not_hold
    if not detection.selected and not lost:
        said = f"no head of {count} reaches {detection.threshold:g} above its control"
        return f"{said}; the best scores {detection.best:.2f}"
    rule = f"score at least {detection.threshold:g} and above control at a false discovery rate of {detection.fdr:.0%}"
    if not lost:
        return f"{len(detection.selected)} of {count} heads found: {rule}"
    return (
        f"{len(detection.selected) or 'no'} of {count} heads found: {rule}, and again on new prompts; {_say_lost(lost)}"
    )


def _say_lost(heads: Sequence[str]) -> str:
    more = f" and {len(heads) - _SHOWN} more" if len(heads) > _SHOWN else ""
    return f"{' '.join(heads[:_SHOWN])}{more} {'was' if len(heads) == 1 else 'were'} selected and did not hold there"


def _say_cause(cause: Cause) -> str:
    if cause.too_few_sets:
        return (
            f"only {len(cause.random_effects)} random sets of as many other heads exist in this model, too few to "
            "show a cause"
        )
    word = "moves" if cause.passed else "does not move"
    return (
        f"{_DOING[cause.intervention]} {word} the behaviour as claimed: {cause.direction} by "
        f"{cause.effect:.3g} [{cause.low:.3g}, {cause.high:.3g}], which exceeds {cause.share_exceeded:.0f}% of "
        f"{len(cause.random_effects)} random sets matched in {cause.matching} (p = {cause.p:.3g}){_say_planned(cause)}"
    )


def _say_planned(cause: Cause) -> str:
    """How many random sets and prompts were planned, where fewer settled the answer."""
    sets = f"{cause.planned_sets} sets" if cause.stopped else ""
    prompts = f"{cause.planned_n} prompts" if cause.planned_n and cause.planned_n > cause.n else ""
    planned = " and ".join(part for part in (sets, prompts) if part)
    return f"; {planned} were planned, fewer settled it" if planned else ""


def _say_literature(literature: Literature) -> str:
    return (
        f"of {len(literature.reported_heads)} heads that papers name in this model {len(literature.shared)} are "
        f"among those found (chance p = {literature.overlap_p:.2g})"
    )
