"""[d_model d_model] matrices of rank d_head, kept as two thin factors."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The matrix `left @ right`, never multiplied out.

    Residual-stream states are row vectors: `x @ left @ right`. Leading axes, such as one for the heads of a layer,
    broadcast. Derived quantities are computed in float64.

    Attributes:
        left: [... d_model d_head]
        right: [... d_head d_model]
    """

    left: Tensor
    right: Tensor

    def __post_init__(self) -> None:
        if self.left.ndim < 2 or self.right.ndim < 2 or self.left.shape[-1] != self.right.shape[-2]:
            raise ValueError(f"factors of shapes {tuple(self.left.shape)} and {tuple(self.right.shape)} do not chain")

    @property
    def T(self) -> "LowRank":  # noqa: N802 (as tensors call it)
        """The transpose."""
        return LowRank(self.right.mT, self.left.mT)

    def __matmul__(self, other: "LowRank") -> "LowRank":
        """The product, kept at the smaller of the two ranks: `a @ b` applies a first, then b."""
        if self.right.shape[-1] != other.left.shape[-2]:
            raise ValueError(f"{self.right.shape[-1]} columns do not meet {other.left.shape[-2]} rows")
        between = self.right.to(other.left) @ other.left  # [... d_head d_head of other]
        if self.left.shape[-1] <= other.right.shape[-2]:
            return LowRank(self.left, between @ other.right)
        return LowRank(self.left.to(between) @ between, other.right)

    def apply(self, states: Tensor) -> Tensor:
        """Multiply row vectors by the matrix: [... d_model] -> [... d_model], in the dtype of `states`."""
        return states @ self.left.to(states) @ self.right.to(states)

    def core(self) -> Tensor:
        """`right @ left`, [... d_head d_head] in float64; has the trace and nonzero eigenvalues of the full matrix."""
        return self.right.double() @ self.left.double()

    def trace(self) -> Tensor:
        """The sum of the eigenvalues, [...]."""
        return self.core().diagonal(dim1=-2, dim2=-1).sum(-1)

    def eigenvalues(self) -> Tensor:
        """The d_head eigenvalues that can be nonzero, complex128, unordered: [... d_head].

        Positivity of copying heads (elhage2021mathematical): the sum of their real parts over the sum of their moduli.
        """
        values: Tensor = torch.linalg.eigvals(self.core())
        return values

    def frobenius(self) -> Tensor:
        """The Frobenius norm, [...]."""
        left, right = self.left.double(), self.right.double()
        squared = ((left.mT @ left) * (right @ right.mT)).sum((-2, -1))  # tr(L^T L R R^T), both symmetric
        return squared.clamp_min(0).sqrt()
