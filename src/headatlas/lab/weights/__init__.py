"""Scores computed from the weights alone: OV and QK circuits, composition of two heads, and their null."""

from headatlas.lab.weights.composition_null import composition_chance
from headatlas.lab.weights.head_composition import Composition
from headatlas.lab.weights.ov_qk import Copying, ov_logits
from headatlas.lab.weights.tokens_in_prompts import copying_in_prompts, places_of

__all__ = ["Composition", "Copying", "composition_chance", "copying_in_prompts", "ov_logits", "places_of"]
