"""Composition scores: how much of a head's output lies in the subspace that a later head reads, from weights alone."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms
from headatlas.notation import Head

CompositionKind = Literal["Q", "K", "V"]


@dataclass(frozen=True)
class Composition:
    """Composition between all heads of a model, and the baseline of random matrices of the same shape.

    Attributes:
        kind: whether the later head's queries, keys or values read the earlier head's output.
        scores: [layer head layer head], earlier head first; NaN if it is not earlier, or does not exist.
        baseline, spread: mean and standard deviation of the score between random heads.
    """

    kind: CompositionKind
    scores: Tensor
    baseline: float
    spread: float

    @property
    def excess(self) -> Tensor:
        """Score minus baseline: [layer head layer head]."""
        return self.scores - self.baseline

    def strongest(self, count: int) -> list[tuple[Head, Head, float]]:
        """The pairs with the largest excess: (earlier head, later head, excess), largest first."""
        flat = self.excess.nan_to_num(nan=float("-inf")).flatten()
        values, places = flat.topk(min(count, int(flat.isfinite().sum())))
        index = torch.stack(torch.unravel_index(places, self.scores.shape), -1).tolist()
        return [(Head(a, b), Head(c, d), value) for (a, b, c, d), value in zip(index, values.tolist(), strict=True)]


def composition(model: OpenModel, kind: CompositionKind, draws: int = 16, seed: int = 0) -> Composition:
    """Composition scores of all pairs of heads (elhage2021mathematical), with the norms before heads folded in.

    Position encoding and the MLPs in between are ignored.

    Args:
        model: whose weights.
        kind: which input of the later head.
        draws, seed: of the baseline, as in `random_composition`.

    Raises:
        HeadatlasError: if the weights or norms are unconfirmed.
    """
    if kind not in ("Q", "K", "V"):
        raise ValueError(f"{kind!r} is no kind of composition; choose Q, K or V")
    anatomy, folding = model.anatomy, fold_norms(model)
    size = (anatomy.layers, anatomy.heads)
    scores = torch.full((*size, *size), float("nan"), dtype=torch.float64)
    for later in anatomy.attention:
        receivers = receivers_of(folding, kind, later)
        for earlier in (each for each in anatomy.attention if each < later):
            found = composition_scores(folding.ov(earlier), receivers).cpu()  # [sender receiver]
            scores[earlier, : len(found), later, : found.shape[1]] = found
    baseline, spread = random_composition(anatomy.d_model, anatomy.d_head, draws, seed)
    return Composition(kind, scores, baseline, spread)


def receivers_of(folding: FoldedNorms, kind: CompositionKind, layer: int) -> LowRank:
    """The matrix by which the receiving heads read the stream: [head d_model d_model]."""
    if kind == "V":
        return folding.ov(layer)
    return folding.qk(layer) if kind == "Q" else folding.qk(layer).T


def composition_scores(senders: LowRank, receivers: LowRank) -> Tensor:
    """||A B|| / (||A|| ||B||) in the Frobenius norm, for every sender A and receiver B, without multiplying out A or B.

    Args:
        senders: [sender d_model d_model], such as the OV matrices of a layer.
        receivers: [receiver d_model d_model].

    Returns:
        [sender receiver] in float64; NaN for a head whose matrix is zero.
    """
    # Orthogonal factors do not change norms: of the outer matrices only the triangular factors [d_head d_head] count.
    outgoing = triangle(senders.left.float()) @ senders.right.float()  # [sender d_head d_model]
    incoming = receivers.left.float() @ triangle(receivers.right.mT.float()).mT  # [receiver d_model d_head]
    incoming = incoming.to(outgoing.device)
    product = outgoing.flatten(0, 1) @ incoming.movedim(0, 1).flatten(1)  # [sender*d_head receiver*d_head]
    blocks = product.reshape(*outgoing.shape[:2], len(incoming), incoming.shape[-1])
    squares = torch.einsum("sdre,sdre->sr", blocks, blocks).double()
    sizes = (each.double().square().sum((-2, -1)) for each in (outgoing, incoming))
    return (squares / torch.outer(*sizes)).sqrt()


def triangle(factor: Tensor) -> Tensor:
    """R of the QR decomposition: [... rows columns] -> [... min(rows, columns) columns]."""
    triangle: Tensor = torch.linalg.qr(factor, mode="r").R
    return triangle


def random_composition(d_model: int, d_head: int, draws: int = 16, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the score between heads whose four matrices are Gaussian noise.

    Args:
        d_model, d_head: their shape.
        draws: number of earlier heads, and of later heads; every pair counts.
        seed: of the noise.
    """
    if draws < 2:
        raise ValueError(f"a spread needs at least two draws, not {draws}")
    generator = torch.Generator().manual_seed(seed)

    def heads() -> LowRank:
        left = torch.randn(draws, d_model, d_head, generator=generator)
        return LowRank(left, torch.randn(draws, d_head, d_model, generator=generator))

    scores = composition_scores(heads(), heads())
    return scores.mean().item(), scores.std().item()
