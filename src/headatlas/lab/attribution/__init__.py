"""Attributes logits to heads, MLPs and source tokens."""

from headatlas.lab.attribution.direct_attribution import (
    direct_effects,
    direct_effects_with_patched_input,
    head_logit_lens,
)
from headatlas.lab.attribution.logit_attribution import Attribution

__all__ = [
    "Attribution",
    "direct_effects",
    "direct_effects_with_patched_input",
    "head_logit_lens",
]
