"""Tests selected heads again on held-out prompts, and applies that test to older records.

Heads are selected for a high score, so their score on the selecting prompts is partly luck, and heads near the
threshold may reach it by luck alone. A head must therefore pass again on held-out prompts: its mean score must reach
the threshold, and exceed the mean of its null. The significance of score minus null is tested once, over all heads, on
the selecting prompts; repeating that test per head on fewer prompts would miss heads for lack of prompts. A score equal
to the threshold reaches it; a score equal to its null does not exceed it. Scores are compared in six significant
digits, as in the record's file, so that a reader of the file gets the same answer. Records call the null `control`.
"""

from collections.abc import Sequence

from headatlas.evidence import statistics, verdict
from headatlas.evidence.records import Detection, Literature, Record
from headatlas.notation import Head

Rows = Sequence[Sequence[float]]  # [layer][head]


def holds(score: float, control: float, threshold: float) -> bool:
    """True if a head passes on held-out prompts: it reaches the threshold and exceeds its null.

    Args:
        score, control: means of the score and its null over held-out prompts.
        threshold: threshold of the score.
    """
    score, control = (float(f"{value:.6g}") for value in (score, control))
    return score >= threshold and score > control


def split_by_held_out(
    heads: Sequence[Head], score: Rows, control: Rows, threshold: float
) -> tuple[list[Head], list[Head]]:
    """Split selected heads into those that pass on held-out prompts and those that fail; keeps their order.

    Args:
        heads: the selected heads.
        score, control: means of the score and its null on held-out prompts.
        threshold: threshold of the score.
    """
    held = [head for head in heads if holds(score[head.layer][head.head], control[head.layer][head.head], threshold)]
    return held, [head for head in heads if head not in held]


def without_heads_that_fail(record: Record) -> Record:
    """Apply the test on held-out prompts to a record that predates it.

    Heads that fail no longer count as found, and the verdict is judged again. If a head fails, the causal test is
    dropped: it used all selected heads together.
    """
    detection = record.detection
    if detection is None or record.behaviour is None or "did_not_hold" in detection.model_fields_set:
        return record
    held, lost = split_by_held_out(record.selected, detection.score, detection.control, detection.threshold)
    names = {"selected": list(map(str, held)), "did_not_hold": list(map(str, lost))}
    detection = detection.model_copy(update=names)
    if not lost:
        return record.model_copy(update={"detection": detection})
    literature = _of_those(record.literature, detection)
    untested = "the causal test used all selected heads, and some of them fail on new prompts; run it again"
    return record.model_copy(
        update={
            "detection": detection,
            "cause": None,
            "literature": literature,
            "verdict": verdict.judge(record.behaviour, detection, None, literature, untested),
        }
    )


def _of_those(literature: Literature, detection: Detection) -> Literature:
    """The comparison with papers, for the heads that pass."""
    if literature.overlap_p is None:
        return literature
    shared = [head for head in literature.shared if head in detection.selected]
    total = sum(map(len, detection.score))
    p = statistics.overlap_p(len(detection.selected), len(literature.reported_heads), len(shared), total)
    return literature.model_copy(update={"shared": shared, "overlap_p": p})
