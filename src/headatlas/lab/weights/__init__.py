"""Scores read from the weights alone: OV and QK matrices, composition of two heads, their chance level."""

from headatlas.lab.weights.composition_null import composition_chance
from headatlas.lab.weights.head_composition import Composition
from headatlas.lab.weights.ov_qk import Copying, ov_logits

__all__ = ["Composition", "Copying", "composition_chance", "ov_logits"]
