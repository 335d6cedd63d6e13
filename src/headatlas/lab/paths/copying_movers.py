"""Finds heads that copy attended tokens to the logits, for scripts on heads that feed or replace them.

Several head types, and both halves of a detection, ask for the movers of a model on the same prompts. So the last
scores are kept for each model, until its weights change.
"""

from collections.abc import Hashable, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

from headatlas.arrays import Array
from headatlas.lab.ablation.partial_rerun import active_hooks
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.paths.prompt_effects import path_effects_from
from headatlas.lab.running.metrics import Metric
from headatlas.lab.weights.tokens_in_prompts import copying_in_prompts, places_of
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt

_kept: WeakKeyDictionary[nn.Module, tuple[Hashable, Array]] = WeakKeyDictionary()  # what was asked last, and scores


def find_copying_movers(
    model: OpenModel,
    prompts: Sequence[Prompt],
    metric: Metric,
    words: Sequence[int],
    least: float = 0.1,
) -> list[Head]:
    """Find heads that contribute to a behaviour directly through the logits, and copy what they attend to.

    The score is the product of two tests of wang2023interpretability: the share of the mean behaviour that is lost when
    the head's direct path to the logits is patched from the corrupted prompts, and its copying score on the words
    where they stand in the prompts.

    Args:
        model: to search.
        prompts: with readouts and corrupted prompts.
        metric: of the behaviour.
        words: tokens that such heads should copy, of which some stand in the prompts.
        least: minimum score.

    Returns:
        The heads with at least the minimum score, best first; possibly none.

    Raises:
        HeadatlasError: as in `path_effects` and `copying_in_prompts`.
        ValueError: where none of the words stands in the prompts.
    """
    scores = _scores(model, prompts, metric, words)
    found = [Head(int(layer), int(head)) for layer, head in np.argwhere(scores >= least)]
    return sorted(found, key=lambda head: -scores[head])


def _scores(model: OpenModel, prompts: Sequence[Prompt], metric: Metric, words: Sequence[int]) -> Array:
    """The product of both tests, [layer head]."""
    read = tuple((prompt.tokens, prompt.corrupted, prompt.readouts) for prompt in prompts)
    changes = sum(weight._version for weight in model.model.parameters())  # of weights, in place
    asked = (read, metric, tuple(words), changes)
    if active_hooks(model) is None and (kept := _kept.get(model.model)) and kept[0] == asked:
        return kept[1]
    copying = copying_in_prompts(model, prompts, places_of(prompts, words)).copying.numpy()  # [layer head]
    found = path_effects_from(model, prompts, metric, [None], factor=copying)
    scores: Array = -found.effects[0].mean(0) / abs(found.clean.mean())
    if active_hooks(model) is None:
        _kept[model.model] = asked, scores
    return scores
