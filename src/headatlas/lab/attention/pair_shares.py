"""Attention between pairs as a share of the attention to a part of the prompt, such as its last question."""

from collections.abc import Callable, Sequence

import numpy as np

from headatlas.arrays import Array
from headatlas.lab.attention.pairs import PairQuestion, attention_between, questions_of
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.scores import Scores
from headatlas.stimuli.prompts import Pairs, Prompt


def attention_shares(model: OpenModel, prompts: Sequence[Prompt], whole: Callable[[Prompt], Pairs]) -> Scores:
    """Measure each head's attention between a prompt's `pairs`, divided by its attention between a larger set.

    A head that rests elsewhere, such as on the first token, is judged by the attention that it has left. Source:
    hong2024how, which divides by the attention to the last problem of a few-shot prompt.

    Args:
        model: to run.
        prompts: with pairs, of any lengths.
        whole: prompt -> the pairs whose attention counts as 1. They have the queries of the prompt's pairs, and are
            used in the corrupted prompt too.

    Returns:
        Scores with one unit per prompt, 0 to 1 where `whole` holds the pairs; the null is the same share in the
        corrupted prompt, between its `null_pairs` (or the same pairs). 0 where a head has no attention to divide by.

    Raises:
        HeadatlasError: if a prompt has no pair, or its tokens do not fit the model.
    """
    asked = [question for prompt in prompts for question in _of(prompt, whole(prompt))]
    part, every, null_part, null_every = np.moveaxis(
        attention_between(model, asked).reshape(len(prompts), 4, model.anatomy.layers, model.anatomy.heads), 1, 0
    )
    return Scores(_divided(part, every), _divided(null_part, null_every))


def _of(prompt: Prompt, whole: Pairs) -> tuple[PairQuestion, ...]:
    pairs, null = questions_of(prompt)
    return pairs, PairQuestion(prompt.tokens, whole), null, PairQuestion(prompt.corrupted, whole)


def _divided(part: Array, whole: Array) -> Array:
    """part / whole, 0 where whole is 0; NaN stays NaN, for heads that do not exist."""
    found: Array = part / np.where(whole == 0, 1.0, whole)
    return found
