"""The null of composition scores: the same two heads, with the stream between them rotated at random.

Let A be the sender's matrix and B the receiver's. Let w and v be their squared singular values divided by their sum, 0
for the remaining of the d dimensions of the stream. With a random rotation O of the stream between them, the squared
score is the sum of w_i v_j O_ij^2. Its mean is 1/d for any heads. From the moments of O, its variance is
2 W_2 V_2 / ((d - 1)(d + 2)) and its third central moment about 8 W_3 V_3 / d^3, where W_n is the sum of (w - 1/d)^n.
The gamma distribution with these three moments (Pearson's type III) gives p.
"""

import numpy as np
import torch

from headatlas.arrays import Array
from headatlas.lab.anatomy.low_rank import LowRank
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.weights.head_composition import Composition, receivers_of, triangle
from headatlas.lab.weights.norm_folding import FoldedNorms, fold_norms, recognise_norm


@torch.no_grad()
def composition_chance(model: OpenModel, found: Composition) -> tuple[Array, Array]:
    """Expected size of composition scores under the null, and the p-value of each score.

    If norms before heads subtract the mean, the null uses directions without mean.

    Args:
        model: whose weights.
        found: its composition scores.

    Returns:
        The root mean square score under the null, [layer], by receiving layer; and the one-sided p, shaped like the
        scores [layer head layer head], NaN where they are.
    """
    folding, anatomy = fold_norms(model), model.anatomy
    writing = {layer: spectrum(folding.ov(layer)) for layer in anatomy.attention}
    p, expected = np.full(found.scores.shape, np.nan), np.full(anatomy.layers, np.nan)
    for later in anatomy.attention:
        width, reading = _width(folding, later), spectrum(receivers_of(folding, found.kind, later))
        expected[later] = width**-0.5
        for earlier in (each for each in anatomy.attention if each < later):
            index = np.s_[earlier, : anatomy.heads_in(earlier), later, : anatomy.heads_in(later)]
            squares = found.scores[index].detach().numpy() ** 2
            p[index] = chance_of(squares, writing[earlier], reading, width)
    return expected, p


def _width(folding: FoldedNorms, layer: int) -> int:
    """Number of dimensions of the stream that a layer's heads can read."""
    norm, d_model = folding.before[layer], folding.model.anatomy.d_model
    return d_model - 1 if norm is not None and recognise_norm(norm, d_model).centred else d_model


def spectrum(heads: LowRank) -> Array:
    """Squared singular values of each matrix, divided by their sum: [head d_head]."""
    core = triangle(heads.left.double()) @ triangle(heads.right.mT.double()).mT
    squares = torch.linalg.svdvals(core).square().cpu()
    return np.asarray(squares / squares.sum(-1, keepdim=True))


def chance_of(squares: Array, writing: Array, reading: Array, width: int) -> Array:
    """One-sided p of squared scores [sender receiver], from the spectra of senders and receivers."""
    from scipy import stats

    def moment(order: int) -> Array:
        return np.outer(*(_central(each, order, width) for each in (writing, reading)))  # [sender receiver]

    spread = np.sqrt(np.clip(2 * moment(2) / ((width - 1) * (width + 2)), 1e-24, None))
    skew = 8 * moment(3) / width**3 / spread**3
    return np.asarray(stats.pearson3.sf((squares - 1 / width) / spread, skew))


def _central(shares: Array, order: int, width: int) -> Array:
    """Sum of (share - 1/width) to a power, over all dimensions of the stream: [head]."""
    rest = (width - shares.shape[-1]) * (-1 / width) ** order
    return np.asarray(((shares - 1 / width) ** order).sum(-1) + rest)
