"""What a model is made of: where its attention, norms and matrices are, proved by numbers."""

from headatlas.lab.anatomy.anatomy import Anatomy
from headatlas.lab.anatomy.low_rank import LowRank

__all__ = [
    "Anatomy",
    "LowRank",
]
