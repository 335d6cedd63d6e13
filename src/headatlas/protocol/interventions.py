"""Measures the cause of a run: interventions on the heads found and on random sets, until the answer stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headatlas.arrays import Array
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics
from headatlas.evidence.sequential import StoppingRule, stopping_rule
from headatlas.lab import OpenModel, ablate_sets
from headatlas.lab.ablation import AblationKind, Patch, ZValues
from headatlas.lab.ablation.z_values import mean_z
from headatlas.notation import Head
from headatlas.progress import Progress, no_progress
from headatlas.protocol.budget import FULL, first_third
from headatlas.protocol.script import PromptSample, Script
from headatlas.protocol.trial import Sets, Trial, draw_until_decided
from headatlas.stimuli.prompts import Prompt


@dataclass(frozen=True)
class Effects:
    """What an intervention changes in the behaviour. The direction that the rule claims is positive.

    Attributes:
        selected: intervening on all selected heads together, [prompt].
        alone: intervening on one of them, head -> [prompt].
        random: intervening on each random set that was drawn, [set prompt]; NaN where the set was told from the
            selected heads without this prompt.
        matched: all random sets that could be drawn, in their order.
        numbers: of the prompts that were read with the selected heads, among those of the task; ascending.
        planned: the number of all prompts of the task.
        rule: by which the drawing of random sets stopped.
    """

    selected: Array
    alone: dict[str, Array]
    random: Array
    matched: statistics.MatchedSets
    numbers: list[int]
    planned: int
    rule: StoppingRule

    def random_means(self, columns: Sequence[int] | None = None) -> Array:
        """The effect of each random set on the prompts read, or on those of some columns: [set].

        That of the selected heads, less the mean difference on the prompts that were read with the set.
        """
        mine, random = self.selected, self.random
        if columns is not None:
            mine, random = mine[columns], random[:, columns]
        return np.asarray(mine.mean() - np.nanmean(mine - random, 1))


def measure_effects(
    script: Script,
    rule: Rule,
    model: OpenModel,
    find: PromptSample,
    task: PromptSample,
    heads: Sequence[Head],
    seed: int,
    progress: Progress = no_progress,
    random_sets: int = FULL.random_sets,
    alone: int = FULL.alone,
) -> Effects | None:
    """Intervene on the heads together, on the best of them alone, and on matched random sets.

    Random sets are drawn until the answer stands (`headatlas.evidence.sequential`). A third of the prompts of each
    family is read first. The others are read only if that third leaves the answer open, and only with the sets that it
    does not tell from the selected heads.

    Heads that the script silences are ablated in all of these runs, and in the baseline.

    Args:
        script, rule, model: of the run.
        find: prompts that the script's edit may learn from.
        task: prompts on which the behaviour is read. The script's search replaces them.
        heads: the selected heads, best first.
        seed: of the random sets.
        progress: told of progress.
        random_sets: how many to draw, at most.
        alone: on how many of the heads, from the first, to intervene alone.

    Returns:
        None where there are no heads, or no matched random set.
    """
    if not heads:
        return None
    silenced = tuple(script.silenced(model)) if script.silenced else ()
    matched = statistics.matched_sets(heads, model.anatomy.all_heads, seed, random_sets, silenced)
    if not matched.sets:
        return None
    searched = script.search(model, task)
    stopping = stopping_rule(len(matched.sets), rule.cause.percentile, early=matched.distinct > len(matched.sets))
    single = heads[:alone]
    change = _changes(script, rule, model, searched, intervention(script, rule, model, find), silenced)
    trial = Trial(change, searched.prompts, _first_third(searched), 1 + len(single))
    draw_until_decided(trial, [heads, *([head] for head in single)], matched.sets, stopping, progress)
    numbers = [number for number in range(len(searched.prompts)) if trial.read[number]]
    return Effects(
        selected=trial.effects[0, numbers],
        alone={str(head): trial.effects[1 + number, numbers] for number, head in enumerate(single)},
        random=trial.random[:, numbers],
        matched=matched,
        numbers=numbers,
        planned=len(searched.prompts),
        rule=stopping,
    )


def _changes(
    script: Script,
    rule: Rule,
    model: OpenModel,
    sample: PromptSample,
    edit: AblationKind | ZValues | Patch,
    silenced: tuple[Head, ...],
) -> Callable[[Sequence[Prompt], Sets], Array]:
    """A function that measures what sets of heads change on prompts of the sample, [set prompt]."""
    if edit == "mean":  # over all prompts, also while a third of them is read
        edit = mean_z(model, [prompt.corrupted for prompt in sample.prompts])
    metric, contrast = script.effect
    sign = -1 if rule.cause.direction == "decrease" else 1

    def change(prompts: Sequence[Prompt], sets: Sets) -> Array:
        every = [silenced, *((*silenced, *each) for each in sets)]
        values = ablate_sets(model, prompts, metric, every, edit, script.positions, contrast)
        found: Array = sign * (values[1:] - values[0])
        return found

    return change


def _first_third(sample: PromptSample) -> list[int]:
    """Numbers of the first third of the prompts of each family."""
    chosen = []
    for family in dict.fromkeys(sample.families):
        numbers = sample.of_family(family)
        chosen += numbers[: first_third(len(numbers))]
    return sorted(chosen)


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
