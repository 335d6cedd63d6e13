"""Replacing what heads give, one head or set at a time, and measuring what the behaviour loses."""

from headatlas.lab.ablation.masked_keys import without_keys
from headatlas.lab.ablation.replacement import AblationKind, Patch
from headatlas.lab.ablation.screening import Screening
from headatlas.lab.ablation.sources import Reference, ablate, mean_z
from headatlas.lab.ablation.sweeps import Sweep

__all__ = [
    "AblationKind",
    "Patch",
    "Reference",
    "Screening",
    "Sweep",
    "ablate",
    "mean_z",
    "without_keys",
]
