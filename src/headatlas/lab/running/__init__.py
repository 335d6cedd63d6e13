"""Runs prompts: batches, one forward pass, logits at the readouts, and the metric of a behaviour."""

from headatlas.lab.running.metrics import (
    Metric,
    accuracy_among_rivals,
    log_odds_of_candidates,
    loss_per_position,
    predicted_candidate,
    probability_difference,
)

__all__ = [
    "Metric",
    "accuracy_among_rivals",
    "log_odds_of_candidates",
    "loss_per_position",
    "predicted_candidate",
    "probability_difference",
]
