"""Finds heads that copy attended tokens to the logits, for scripts on heads that feed or replace them."""

from collections.abc import Sequence

import numpy as np

from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.paths.prompt_effects import path_effects
from headatlas.lab.running.behaviour import metric_per_prompt
from headatlas.lab.running.metrics import Metric
from headatlas.lab.weights.ov_qk import States, copying_scores
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt


def find_copying_movers(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    words: Sequence[int],
    least: float = 0.1,
    states: States = "mlp0",
) -> list[Head]:
    """Find heads that contribute to a behaviour directly through the logits, and copy what they attend to.

    The score is the product of two tests of wang2023interpretability: the share of the mean behaviour that is lost when
    the head's direct path to the logits is patched from the corrupted prompts, and the head's copying score.

    Args:
        model: to search.
        prompts: with readouts and corrupted prompts.
        metric: of the behaviour.
        words: tokens that such heads should copy.
        least: minimum score.
        states: input of the OV circuit, as in `copying_scores`.

    Returns:
        The heads with at least the minimum score, best first; possibly none.

    Raises:
        HeadatlasError: as in `path_effects` and `copying_scores`.
    """
    whole = abs(metric_per_prompt(model, prompts, metric).mean())
    shares = -path_effects(model, prompts, metric).mean(0) / whole  # [layer head]
    scores = shares * copying_scores(model, words, states=states).copying.numpy()
    found = [Head(int(layer), int(head)) for layer, head in np.argwhere(scores >= least)]
    return sorted(found, key=lambda head: -scores[head])
