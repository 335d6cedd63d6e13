"""Recall curves of the contextual maintenance and retrieval (CMR) model, fitted to attention over lags.

CMR models free recall; Ji-An et al. 2024 compare induction heads with it. A context drifts from item to item. While a
list is read, every item is bound to the context before it; a repeated item reinstates its context, and so its
neighbours.
"""

from functools import cache

import numpy as np

from headatlas.arrays import Array

LAGS = 5  # on either side of the earlier copy
_FAR = 60  # items on either side included in the computation
_BETAS, _GAMMAS = 20, 10  # grid steps of the authors


@cache
def cmr_curves(lags: int = LAGS) -> Array:
    """Recall strength of the items around an item, when the list is read again in order.

    The authors simulate free recall; this computes the first recall after every item, in closed form, on their grid:
    the drift rate of the context at first reading (0.05 to 1) and at second reading (0.05 to 1), and the share of the
    reinstated context that is the item's list context (0 to 1).

    Returns:
        [curve lag], lags from -lags to lags, each curve scaled to 0 to 1.
    """
    steps = np.arange(1, _BETAS + 1) / _BETAS
    places = np.arange(-_FAR, _FAR + 1)
    curves = []
    for reading in steps:
        # bound[i, j]: how strongly the context of item i alone recalls item j; later j only, decaying with distance
        distance = places[None, :] - places[:, None]
        bound = np.where(distance > 0, (1 - reading) ** np.maximum(distance - 1, 0), 0.0)
        own, place = (places == 0).astype(float), bound[:, _FAR]  # contexts: of the item itself, of its place
        for share in np.arange(_GAMMAS + 1) / _GAMMAS:
            brought = (1 - share) * own + share * place
            recalled = bound.T @ (brought / np.linalg.norm(brought))  # [item], recalled by one item's context
            for again in steps:
                fading = again * (1 - again) ** np.arange(_FAR)  # weights of the items reread before it
                drift = np.convolve(recalled, fading[::-1])[len(fading) - 1 :]  # [item]: sum_k fading_k recalled[i + k]
                curves.append(drift[_FAR - lags : _FAR + lags + 1])
    return _spread(np.array(curves))


def cmr_fit(attention: Array) -> Array:
    """Fit of the best CMR recall curve to an attention curve, both scaled to the range 0 to 1.

    Args:
        attention: [... lag], lags from -5 to 5 around the earlier copy of the current token.

    Returns:
        [...]: 1 minus the CMR distance (mean squared error over the variance of the curve), clipped at 0. 1 means that
        the curve is one of the model's; 0 means no better than the curve's own mean, or a flat curve.
    """
    curves, given = cmr_curves(attention.shape[-1] // 2), _spread(attention)
    squares = (given**2).sum(-1)[..., None] - 2 * given @ curves.T + (curves**2).sum(-1)  # [... curve]
    least = np.maximum(squares.min(-1), 0.0) / given.shape[-1]
    variance = given.var(-1)
    fit: Array = np.where(variance > 0, 1 - least / np.maximum(variance, 1e-12), 0.0)
    return np.clip(fit, 0.0, 1.0)


def _spread(curves: Array) -> Array:
    """Scale each curve [... lag] to 0 to 1; a flat curve becomes 0."""
    lowest = curves.min(-1, keepdims=True)
    span = curves.max(-1, keepdims=True) - lowest
    spread: Array = (curves - lowest) / np.where(span > 0, span, 1.0)
    return spread
