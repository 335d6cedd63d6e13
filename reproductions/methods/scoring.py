"""Prefix matching: how much attention goes from a repeated token to the one that followed it the first time.

The corrupted prompt is the same attention, between the same positions, where no token is repeated.
"""

import numpy as np

from headatlas.lab import OpenModel, attention_scores
from headatlas.methods import repeated_spans


def example(model: OpenModel) -> dict[str, float | str]:
    """16 prompts of 25 random tokens written twice."""
    found = attention_scores(model, repeated_spans(model.vocabulary, 16))
    score, null = found.score.mean(0), found.null.mean(0)  # [layer head]
    best = model.anatomy.strongest(score)
    return {
        "highest head": str(best),
        "its attention to the targets (share)": float(score[best]),
        "the same on the corrupted prompt (share)": float(null[best]),
        "mean over all heads (share)": float(np.nanmean(score)),
    }
