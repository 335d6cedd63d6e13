"""Ablates heads, one or a set at a time, and measures the effect on a behaviour."""

from headatlas.lab.ablation.masked_keys import without_keys
from headatlas.lab.ablation.other_patterns import attending_as, with_corrupted_patterns, with_uniform_patterns
from headatlas.lab.ablation.replacement import AblationKind, Patch
from headatlas.lab.ablation.screening import Screening
from headatlas.lab.ablation.sweeps import Sweep, patch_sweeps
from headatlas.lab.ablation.z_values import ZValues, ablate, mean_z

__all__ = [
    "AblationKind",
    "Patch",
    "Screening",
    "Sweep",
    "ZValues",
    "ablate",
    "attending_as",
    "mean_z",
    "patch_sweeps",
    "with_corrupted_patterns",
    "with_uniform_patterns",
    "without_keys",
]
