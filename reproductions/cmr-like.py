"""CMR-like heads attend around an earlier copy of the current token as people recall a list around an item.

Claim      The curve of attention over the distance to the earlier copy is one that the contextual maintenance and
           retrieval model (CMR) of human memory gives, and in-context learning needs the heads with such a curve
           (jian2024linking).
Stimuli    Random tokens, written twice, in three lengths.
Score      One minus the CMR distance: how well the best curve of the model over a grid of its three parameters fits the
           head's attention scores at lags -5 to 5, averaged over the second copy, both scaled to the same range. Scores
           are taken before the softmax, as in the released files. The curves are those of a list read again in order,
           in closed form, where the authors simulate free recall.
Control    The same, at the same distances, where the second copy is fresh random tokens.
Behaviour  The log-probability of the second copy's tokens minus the same after fresh ones. The paper's score of
           in-context learning, loss at token 500 less that at token 50, needs longer texts than small models read.
Cause      The heads found are replaced by their mean over the controls: the gain from the first copy should shrink. The
           paper sets their values to zero.
"""

import random

import numpy as np

from headatlas.lab import OpenModel, PairWeight, Scores, log_probability, recall_fit, score_heads
from headatlas.script import Drawn
from headatlas.stimuli import Prompt, Readout, Vocabulary

FAMILIES = {"thirty": 30, "forty": 40, "fifty": 50}
LAGS = range(-5, 6)
BEHAVIOUR, CONTRAST = log_probability, True


def stimulus(words: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span, written twice; pairs lead from the inner tokens of the second copy to all lags about the first."""
    length, start = FAMILIES[family], len(words.bos)
    span, fresh = words.draw(rng, length), words.draw(rng, length)
    inner = range(start + length + 5, start + 2 * length - 5)
    return Prompt(
        tokens=words.bos + span + span,
        control=words.bos + span + fresh,
        pairs=tuple((query, query - length + lag) for query in inner for lag in LAGS),
        readouts=tuple(Readout(query, span[query - start - length + 1]) for query in inner),
    )


def detect(model: OpenModel, drawn: Drawn) -> Scores:
    """The fit of the recall curves to each head's scores about the first copy."""
    score, control = (
        np.stack([fit(model, prompt.pairs, getattr(prompt, side)) for prompt in drawn.prompts])
        for side in ("tokens", "control")
    )
    return Scores(score, control)


def fit(model: OpenModel, pairs: tuple[tuple[int, int], ...], tokens: tuple[int, ...]) -> np.ndarray:
    """[layer head]. The logarithm of a weight is its score but for what is the same at all lags."""
    weights = score_heads(model, [tokens], {"pairs": PairWeight(pairs)})["pairs"][0]  # [layer head pair]
    scores = np.log(np.maximum(weights.double().numpy(), 1e-30))
    return recall_fit(scores.reshape(*scores.shape[:2], -1, len(LAGS)).mean(-2))
