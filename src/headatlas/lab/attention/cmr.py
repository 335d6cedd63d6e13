"""How people recall a list, as attention would show it: curves of the contextual maintenance and retrieval model.

The model (Ji-An et al. 2024) keeps a context that drifts from item to item. While a list is read, every item is bound
to the context before it; an item that comes back brings its context with it, and so its neighbours.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LAGS = 5  # on either side of the earlier copy
_FAR = 60  # items on either side that are reckoned with
_BETAS, _GAMMAS = 20, 10  # steps of the authors' grid


@cache
def cmr_curves(lags: int = LAGS) -> Array:
    """How strongly the items around an item are recalled when the list is read again in order.

    The authors simulate free recall; this is the first recall after every item, in closed form. The grid is theirs:
    how much each item moves the context when the list is first read (0.05 to 1) and when it is read again (0.05 to 1),
    and how much of the context that an item brings back is that of its place in the list (0 to 1).

    Returns:
        [curve lag], lags from -lags to lags, each curve from 0 to 1.
    """
    steps = np.arange(1, _BETAS + 1) / _BETAS
    places = np.arange(-_FAR, _FAR + 1)
    curves = []
    for reading in steps:
        # bound[i, j]: how much the context of item i, alone, recalls item j: j came later, the sooner the more
        distance = places[None, :] - places[:, None]
        bound = np.where(distance > 0, (1 - reading) ** np.maximum(distance - 1, 0), 0.0)
        own, place = (places == 0).astype(float), bound[:, _FAR]  # contexts: of the item itself, of its place
        for share in np.arange(_GAMMAS + 1) / _GAMMAS:
            brought = (1 - share) * own + share * place
            recalled = bound.T @ (brought / np.linalg.norm(brought))  # [item], by what one item brings
            for again in steps:
                fading = again * (1 - again) ** np.arange(_FAR)  # of items read again before it
                drift = np.convolve(recalled, fading[::-1])[len(fading) - 1 :]  # [item]: sum_k fading_k recalled[i + k]
                curves.append(drift[_FAR - lags : _FAR + lags + 1])
    return _spread(np.array(curves))


def cmr_fit(attention: Array) -> Array:
    """How well the best of the recall curves fits a curve of attention, both scaled to the same range.

    Args:
        attention: [... lag], lags from -5 to 5 about the earlier copy of the current token.

    Returns:
        [...]: 1 minus the CMR distance, which is the mean squared error over the variance of the curve: 1 for a curve
        of the model, 0 for one that fits no better than its own mean, and for a flat one; never below 0.
    """
    curves, given = cmr_curves(attention.shape[-1] // 2), _spread(attention)
    squares = (given**2).sum(-1)[..., None] - 2 * given @ curves.T + (curves**2).sum(-1)  # [... curve]
    least = np.maximum(squares.min(-1), 0.0) / given.shape[-1]
    variance = given.var(-1)
    fit: Array = np.where(variance > 0, 1 - least / np.maximum(variance, 1e-12), 0.0)
    return np.clip(fit, 0.0, 1.0)


def _spread(curves: Array) -> Array:
    """Each curve [... lag] from 0 to 1; a flat one is 0."""
    lowest = curves.min(-1, keepdims=True)
    reach = curves.max(-1, keepdims=True) - lowest
    spread: Array = (curves - lowest) / np.where(reach > 0, reach, 1.0)
    return spread
