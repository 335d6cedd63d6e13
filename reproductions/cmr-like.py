"""CMR-like heads attend around an earlier copy of the current token as people recall a list around an item.

Claim      The curve of attention over the distance to the earlier copy is one that the contextual maintenance and
           retrieval model (CMR) of human memory gives, and in-context learning needs the heads with such a curve
           (jian2024linking).
Stimuli    Random tokens, written twice, in three lengths; for the behaviour, shorter ones.
Score      One minus the CMR distance: how well the best curve of the model over a grid of its three parameters fits the
           head's attention scores at lags -5 to 5, averaged over the second copy, both scaled to the same range. Scores
           are taken before the softmax, as in the released files. The curves are those of a list read again in order,
           in closed form, where the authors simulate free recall.
Control    The same, at the same distances, where the second copy is fresh random tokens.
Behaviour  The log-probability of the second copy's tokens minus the same after fresh ones. The paper's score of
           in-context learning, loss at token 500 less that at token 50, needs longer texts than small models read.
Cause      The heads found are replaced by their mean over the corrupted prompts: the gain from the first copy should
           shrink. The paper sets their values to zero.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, log_probability, score_heads
from headatlas.lab.attention import PairWeight, cmr_fit
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary

FAMILIES = {"thirty": 30, "forty": 40, "fifty": 50}
LAGS = range(-5, 6)
SHORTER = 4  # for behaviour and cause
BEHAVIOUR, CONTRAST = log_probability, True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span, written twice; pairs lead from the inner tokens of the second copy to all lags about the first."""
    length, start = FAMILIES[family], len(vocab.bos)
    made = written(vocab, length, rng)
    inner = range(start + length + max(LAGS), start + 2 * length + min(LAGS))
    return replace(made, pairs=tuple((query, query - length + lag) for query in inner for lag in LAGS))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same, shorter."""
    return written(vocab, FAMILIES[family] // SHORTER, rng)


def written(vocab: Vocabulary, length: int, rng: random.Random) -> Prompt:
    """A span, written twice, and in the corrupted prompt a fresh one after it; read throughout the second copy."""
    span, fresh, start = vocab.draw(rng, length), vocab.draw(rng, length), len(vocab.bos)
    second = range(start + length, start + 2 * length - 1)
    return Prompt(
        tokens=vocab.bos + span + span,
        corrupted=vocab.bos + span + fresh,
        readouts=tuple(Readout(query, span[query - start - length + 1]) for query in second),
    )


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The fit of the recall curves to each head's scores about the first copy."""
    score, null = (
        np.stack([fit(model, prompt.pairs, getattr(prompt, side)) for prompt in sample.prompts])
        for side in ("tokens", "corrupted")
    )
    return Scores(score, null)


def fit(model: OpenModel, pairs: tuple[tuple[int, int], ...], tokens: tuple[int, ...]) -> np.ndarray:
    """[layer head]. The logarithm of a weight is its score but for what is the same at all lags."""
    weights = score_heads(model, [tokens], {"pairs": PairWeight(pairs)})["pairs"][0]  # [layer head pair]
    scores = np.log(np.maximum(weights.double().numpy(), 1e-30))
    return cmr_fit(scores.reshape(*scores.shape[:2], -1, len(LAGS)).mean(-2))
