"""Where a model keeps its attention, norms and weight matrices, verified numerically."""

from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.anatomy.low_rank import LowRank

__all__ = [
    "Anatomy",
    "LowRank",
]
