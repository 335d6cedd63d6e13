"""Measures one entry on one model: the behaviour, the scores of all heads, and the effect of interventions.

Everything here returns plain numbers, with axes in brackets. `headatlas.protocol.assess` makes the parts of a record of
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headatlas.arrays import Array
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics
from headatlas.lab import OpenModel, Scores, ablate_sets, attention_scores, metric_per_prompt
from headatlas.lab.ablation import AblationKind, Patch, ZValues
from headatlas.lab.anatomy import Anatomy
from headatlas.lab.attention.pairs import attention_between, questions_of
from headatlas.lab.running.batches import OnDone
from headatlas.notation import Head
from headatlas.progress import Progress, counter, no_progress
from headatlas.protocol.costs import INTERVENTIONS, scores_step
from headatlas.protocol.draw_stimuli import DrawnStimuli
from headatlas.protocol.script import PromptSample, Script, Split


@dataclass(frozen=True)
class Effects:
    """What an intervention changes in the behaviour. The direction that the rule claims is positive.

    Attributes:
        selected: intervening on all selected heads together, [prompt].
        alone: intervening on one of them, head -> [prompt].
        random: intervening on each matched random set, [set prompt].
        matched: the random sets.
    """

    selected: Array
    alone: dict[str, Array]
    random: Array
    matched: statistics.MatchedSets


@dataclass(frozen=True)
class Measured:
    """The numbers of one run.

    Attributes:
        stimuli: that were used.
        behaviour: the metric of the behaviour, [prompt].
        scores: of the prompts that select heads, and of those that test them.
        effects: of intervening on the selected heads; None where that was not measured.
        moved: the prompts of `effects`; those of the task where it is None.
    """

    stimuli: DrawnStimuli
    behaviour: Array
    scores: Mapping[Split, Scores]
    effects: Effects | None = None
    moved: PromptSample | None = None


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


def measure_effects(
    script: Script,
    rule: Rule,
    model: OpenModel,
    find: PromptSample,
    task: PromptSample,
    heads: Sequence[Head],
    seed: int,
    progress: Progress = no_progress,
    random_sets: int = statistics.RANDOM_SETS,
    alone: int | None = None,
) -> Effects | None:
    """Intervene on the heads together, on each alone, and on matched random sets.

    Heads that the script silences are ablated in all of these runs, and in the baseline.

    Args:
        script, rule, model: of the run.
        find: prompts that the script's edit may learn from.
        task: prompts on which the behaviour is read. The script's search replaces them.
        heads: the selected heads, best first.
        seed: of the random sets.
        progress: told of progress.
        random_sets: how many to draw, at most.
        alone: on how many of the heads, from the first, to intervene alone; on each by default.

    Returns:
        None where there are no heads, or no matched random set.
    """
    if not heads:
        return None
    silenced = tuple(script.silenced(model)) if script.silenced else ()
    matched = statistics.matched_sets(heads, model.anatomy.all_heads, seed, random_sets, silenced)
    if not matched.sets:
        return None
    metric, contrast = script.effect
    single = heads[:alone]
    sets: list[Sequence[Head]] = [(), heads, *([head] for head in single), *matched.sets]
    prompts = script.search(model, task).prompts
    values = ablate_sets(
        model,
        prompts,
        metric,
        [(*silenced, *each) for each in sets],
        intervention(script, rule, model, find),
        script.positions,
        contrast,
        progress=counter(progress, INTERVENTIONS, (len(sets) - 1) * len(prompts)),
    )
    change = values[0] - values[1:] if rule.cause.direction == "decrease" else values[1:] - values[0]  # [set prompt]
    by_head = {str(head): change[1 + number] for number, head in enumerate(single)}
    return Effects(change[0], by_head, change[1 + len(single) :], matched)


def intervention(script: Script, rule: Rule, model: OpenModel, find: PromptSample) -> AblationKind | ZValues | Patch:
    """What the rule's intervention puts in place of z: an ablation, or what the script's edit learns from `find`.

    Raises:
        HeadatlasError: where rule and script do not go together.
    """
    kind = rule.cause.intervention
    if script.edit and (kind == "steer" or kind == "patch"):
        return script.edit(model, find)
    if script.edit is None and kind != "steer" and kind != "patch":
        return kind
    has = "has an" if script.edit else "has no"
    raise HeadatlasError(f"the rule of {script.id} says {kind}, and its script {has} edit function; change one of them")


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
