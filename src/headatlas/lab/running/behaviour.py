"""Measures the metric of a behaviour on each prompt."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from headatlas.arrays import Array
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import Readouts, batches, stack_tokens
from headatlas.lab.running.few_logits import only_logits_of
from headatlas.lab.running.forward import forward
from headatlas.lab.running.metrics import Metric
from headatlas.lab.running.readouts import read_metric, readouts_among, tokens_read
from headatlas.stimuli.prompts import Prompt


def metric_per_prompt(
    model: OpenModel, prompts: Sequence[Prompt], metric: Metric, minus_corrupted: bool = False
) -> Array:
    """Run the prompts and compute a metric from the logits at their readouts.

    To measure it with heads ablated, use `ablate_sets`; with other edits, call this inside `intervene`.

    Args:
        model: to run.
        prompts: with readouts, of any lengths.
        metric: a function of logits, answers and rivals, such as `logit_difference`.
        minus_corrupted: subtract the metric on the corrupted prompt.

    Returns:
        [prompt], in the unit of the metric.

    Raises:
        HeadatlasError: if a token or a prompt does not fit the model, or the logits are not finite.
    """
    values = np.empty(len(prompts))
    for index, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
        vocabulary = tokens_read(model, metric, batch)
        readouts = readouts_among(vocabulary, batch)
        with only_logits_of(model, vocabulary):
            values[index] = _read(model, stack_tokens([prompt.tokens for prompt in batch]), readouts, metric)
            if minus_corrupted:
                values[index] -= _read(model, stack_tokens([prompt.corrupted for prompt in batch]), readouts, metric)
    return values


def _read(model: OpenModel, tokens: Tensor, readouts: Readouts, metric: Metric) -> Array:
    found: Array = read_metric(metric, forward(model, tokens, positions=readouts[0])[None], readouts)[0]
    return found
