"""Scores computed from the weights alone: OV and QK circuits, composition of two heads, and their null."""

from headatlas.lab.weights.composition_null import composition_chance
from headatlas.lab.weights.head_composition import Composition
from headatlas.lab.weights.ov_qk import Copying, k_composition_matching, ov_logits, ov_positivity, qk_positivity
from headatlas.lab.weights.previous_token import previous_token_scores

__all__ = [
    "Composition",
    "Copying",
    "composition_chance",
    "k_composition_matching",
    "ov_logits",
    "ov_positivity",
    "previous_token_scores",
    "qk_positivity",
]
