"""Whether a head that was selected on some prompts holds on others, and what that leaves of a record.

Heads are selected for a high score, so part of what they score is luck: on the prompts that selected them they look
better than they are, and some that lie near the threshold reach it by chance alone. What is said of a head must
therefore hold on prompts that took no part in selecting it, and what is said are two things: that its mean score
reaches the threshold, and that it exceeds the control. Both are asked again, of the means on held-out prompts. That the
score exceeds its control by more than chance was tested over all heads where they were selected; to ask it again of
each, on fewer prompts, would call heads absent for lack of prompts. A score at the threshold exactly reaches it; one
that equals its control does not exceed it. Figures are compared as records keep them, in six significant digits, so
that a reader of a file comes to the same answer.
"""

from collections.abc import Sequence

from headatlas.evidence import statistics, verdict
from headatlas.evidence.records import Detection, Literature, Record
from headatlas.notation import Head

Grid = Sequence[Sequence[float]]  # [layer][head]


def holds(score: float, control: float, threshold: float) -> bool:
    """Whether means on held-out prompts bear out a selected head: it reaches the threshold and exceeds the control.

    Args:
        score, control: means over held-out prompts.
        threshold: of the score.
    """
    score, control = (float(f"{value:.6g}") for value in (score, control))
    return score >= threshold and score > control


def parted(heads: Sequence[Head], score: Grid, control: Grid, threshold: float) -> tuple[list[Head], list[Head]]:
    """Of selected heads those that hold and those that do not, each in the order given.

    Args:
        heads: that were selected.
        score, control: means on held-out prompts.
        threshold: of the score.
    """
    held = [head for head in heads if holds(score[head.layer][head.head], control[head.layer][head.head], threshold)]
    return held, [head for head in heads if head not in held]


def settled(record: Record) -> Record:
    """A record as it may be read: of one made before heads had to hold, those that do not are no longer found.

    The verdict is given anew. The cause was tested on all heads together, and so not on those that are left: it goes.
    """
    detection = record.detection
    if detection is None or record.behaviour is None or "did_not_hold" in detection.model_fields_set:
        return record
    held, lost = parted(record.selected, detection.score, detection.control, detection.threshold)
    names = {"selected": list(map(str, held)), "did_not_hold": list(map(str, lost))}
    detection = detection.model_copy(update=names)
    if not lost:
        return record.model_copy(update={"detection": detection})
    literature = _of_those(record.literature, detection)
    untested = "the cause was recorded for all heads selected, of which some do not hold; run it again"
    return record.model_copy(
        update={
            "detection": detection,
            "cause": None,
            "literature": literature,
            "verdict": verdict.judge(record.behaviour, detection, None, literature, untested),
        }
    )


def _of_those(literature: Literature, detection: Detection) -> Literature:
    """What papers say, beside the heads that hold."""
    if literature.overlap_p is None:
        return literature
    shared = [head for head in literature.shared if head in detection.selected]
    total = sum(map(len, detection.score))
    p = statistics.overlap_p(len(detection.selected), len(literature.reported_heads), len(shared), total)
    return literature.model_copy(update={"shared": shared, "overlap_p": p})
