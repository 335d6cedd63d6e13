"""Measures one entry on one model: the behaviour, and the scores of all heads.

Everything here returns plain numbers, with axes in brackets. `headatlas.protocol.assess` makes the parts of a record of
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, Scores, attention_scores, metric_per_prompt
from headatlas.lab.anatomy import Anatomy
from headatlas.lab.attention.pairs import attention_between, questions_of
from headatlas.lab.running.batches import OnDone
from headatlas.notation import Head
from headatlas.progress import Progress, counter, no_progress
from headatlas.protocol.budget import Budget
from headatlas.protocol.costs import scores_step
from headatlas.protocol.draw_stimuli import DrawnStimuli
from headatlas.protocol.interventions import Effects
from headatlas.protocol.script import PromptSample, Script, Split
from headatlas.protocol.script_check import COSTS


@dataclass(frozen=True)
class Measured:
    """The numbers of one run.

    Attributes:
        stimuli: that were used.
        behaviour: the metric of the behaviour, [prompt].
        scores: of the prompts that select heads, and of those that test them; empty where `unscored`.
        effects: of intervening on the selected heads; None where that was not measured.
        moved: the prompts of `effects`; those of the task where it is None.
        unscored: why there are no scores: the model lacks the behaviour.
    """

    stimuli: DrawnStimuli
    behaviour: Array
    scores: Mapping[Split, Scores]
    effects: Effects | None = None
    moved: PromptSample | None = None
    unscored: str = ""


def why_unscored(script: Script, budget: Budget) -> str:
    """Why heads of a model without the behaviour get no scores; empty where they get them all the same."""
    if script.needs_behaviour:
        return "the score is a share of a behaviour, and the model lacks it"
    if budget == "quick" and script.cost:
        why = f"the model lacks the behaviour, and the score is costly ({COSTS[script.cost]})"
        return f"{why}; --budget full measures it all the same"
    return ""


def measure_behaviour(script: Script, model: OpenModel, task: PromptSample) -> Array:
    """The metric of the behaviour, [prompt]."""
    return metric_per_prompt(model, task.prompts, script.behaviour, script.contrast)


def measure_scores(script: Script, model: OpenModel, sample: PromptSample, progress: Progress = no_progress) -> Scores:
    """The score of every head: the script's own, or the attention between the pairs of its prompts.

    Raises:
        HeadatlasError: where a head of the model has no score.
    """
    what = scores_step(sample.split)
    if script.detect is None:
        found = attention_scores(model, sample.prompts, counter(progress, what, sequences_in([sample])))
    else:
        step = counter(progress, what, len(sample.prompts))
        found = script.detect(model, sample)
        step(len(sample.prompts))
    return of_heads(found, model.anatomy, script.id)


def measure_attention_scores(
    model: OpenModel, samples: Sequence[PromptSample], progress: OnDone | None = None
) -> list[Scores]:
    """The attention between pairs for several entries at once; each sequence of tokens is run once for all of them.

    Args:
        model: to run.
        samples: one of each entry, at least one.
        progress: called with the number of sequences run since the last call.

    Returns:
        One for each sample, without the sink.
    """
    prompts = [prompt for sample in samples for prompt in sample.prompts]
    values = attention_between(model, [each for prompt in prompts for each in questions_of(prompt)], progress)
    ends = np.cumsum([2 * len(sample.prompts) for sample in samples])[:-1]
    return [Scores(each[::2], each[1::2]) for each in np.split(values, ends)]


def sequences_in(samples: Sequence[PromptSample]) -> int:
    """The number of different token sequences among the prompts and corrupted prompts of some samples."""
    prompts = [prompt for sample in samples for prompt in sample.prompts]
    return len({tokens for prompt in prompts for tokens in (prompt.tokens, prompt.corrupted)})


def of_heads(found: Scores, anatomy: Anatomy, name: str) -> Scores:
    """Scores with NaN where the model has no such head.

    Args:
        found: the scores of a script.
        anatomy: of the model.
        name: id of the script.

    Raises:
        HeadatlasError: where a head of the model has no score.
    """
    there = np.zeros((anatomy.layers, anatomy.heads), dtype=bool)
    for head in anatomy.all_heads:
        there[head] = True
    for values in (found.score, found.null):
        known = np.isfinite(values).all(0)
        if lost := np.argwhere(there & ~known).tolist():
            raise HeadatlasError(
                f"the score of {name} is not a number for {Head(*lost[0])}; open the model in float32, or report it"
            )
    if there.all():
        return found
    score, null = (np.where(there, values, np.nan) for values in (found.score, found.null))
    return replace(
        found, score=score, null=null, sink=None if found.sink is None else np.where(there, found.sink, np.nan)
    )
