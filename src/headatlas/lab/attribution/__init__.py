"""Attributes logits to heads, MLPs and source tokens."""

from headatlas.lab.attribution.direct_attribution import direct_effects, direct_effects_of_keys, head_logit_lens
from headatlas.lab.attribution.edited_runs import direct_effects_with_patched_input, direct_effects_without
from headatlas.lab.attribution.label_spaces import LabelSpace, label_space
from headatlas.lab.attribution.logit_attribution import Attribution

__all__ = [
    "Attribution",
    "LabelSpace",
    "direct_effects",
    "direct_effects_of_keys",
    "direct_effects_with_patched_input",
    "direct_effects_without",
    "head_logit_lens",
    "label_space",
]
