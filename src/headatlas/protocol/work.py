"""What the scores of head types cost, from counts on some models (`tools/count_work.py`).

Work is counted in tokens that pass all layers. A score runs its prompts some number of times, and patches, for every
head, some positions of every prompt from the head's layer on. So its work is fitted as

    a x tokens of the prompts + b x heads of the model x number of prompts

by least squares of the relative error, a and b not negative. Counts do not depend on the machine. Seconds do; what is
taken from them is only how many times slower a token of work is than in other scores of the same model.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

FILE = Path(__file__).with_name("work.json")
_UNKNOWN = 5.0  # runs of every prompt, for a score that was not counted


class Count(NamedTuple):
    """What the scores of one type cost on one model, for the prompts that select heads and those that test them.

    Attributes:
        model: its name.
        heads: of the model.
        prompts, tokens: read: their number, and their length together.
        work: tokens that passed all layers.
        passes: runs of the model, partial ones included.
        seconds: that it took.
    """

    model: str
    heads: int
    prompts: int
    tokens: int
    work: float
    passes: int
    seconds: float


class Fit(NamedTuple):
    """The work of a score: `per_token` for every token of its prompts, and `per_head` for every head and prompt.

    `pace` says how many times slower its work is than that of most scores: it trains, or ranks the vocabulary.
    """

    per_token: float
    per_head: float = 0.0
    pace: float = 1.0

    def work(self, tokens: float, prompts: float, heads: int) -> float:
        """Tokens that pass all layers, for prompts of a length of `tokens` together."""
        return self.per_token * tokens + self.per_head * heads * prompts


def fit_of(id: str) -> Fit:
    """The fitted work of the score of a type; a guess for one that was not counted."""
    return _fits().get(id, Fit(_UNKNOWN))


@cache
def counts() -> dict[str, list[Count]]:
    """All counts, by type."""
    return {id: [Count(**row) for row in rows] for id, rows in json.loads(FILE.read_text(encoding="utf-8")).items()}


@cache
def _fits() -> dict[str, Fit]:
    usual = _usual_seconds()
    return {id: _fit(rows, usual) for id, rows in counts().items()}


def _fit(rows: Sequence[Count], usual: dict[str, float]) -> Fit:
    features = np.array([(row.tokens / row.work, row.heads * row.prompts / row.work) for row in rows])
    if len(rows) == 1:
        features[:, 1] = 0.0
    (per_token, per_head), _ = nnls(features, np.ones(len(rows)))
    largest = max(rows, key=lambda row: row.work * usual[row.model])
    return Fit(float(per_token), float(per_head), max(1.0, largest.seconds / largest.work / usual[largest.model]))


def _usual_seconds() -> dict[str, float]:
    """The median seconds of a token of work, by model."""
    found: dict[str, list[float]] = {}
    for row in (row for rows in counts().values() for row in rows):
        found.setdefault(row.model, []).append(row.seconds / row.work)
    return {model: float(np.median(each)) for model, each in found.items()}
