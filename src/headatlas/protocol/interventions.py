"""Measures the cause of a run: interventions on the heads found and on random sets, until the answer stands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from headatlas.arrays import Array
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics
from headatlas.evidence.sequential import Answer, StoppingRule, stopping_rule
from headatlas.lab import OpenModel, ablate_sets
from headatlas.lab.ablation import AblationKind, Patch, ZValues
from headatlas.lab.ablation.z_values import mean_z
from headatlas.notation import Head
from headatlas.progress import Progress, no_progress
from headatlas.protocol.budget import FULL
from headatlas.protocol.costs import INTERVENTIONS
from headatlas.protocol.script import PromptSample, Script
from headatlas.stimuli.prompts import Prompt

_FEWEST = 4  # prompts of a family
_SURE = 0.99  # confidence that a random set reaches the effect, or does not, on all prompts

Sets = Sequence[Sequence[Head]]


@dataclass(frozen=True)
class Effects:
    """What an intervention changes in the behaviour. The direction that the rule claims is positive.

    Attributes:
        selected: intervening on all selected heads together, [prompt].
        alone: intervening on one of them, head -> [prompt].
        random: intervening on each random set that was drawn, [set prompt].
        matched: all random sets that could be drawn, in their order.
        numbers: of the prompts that were read, among those of the task; ascending.
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
    family is read first, and the others only if that third leaves the answer open.

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
    trial = _Trial(change, searched.prompts, _first_third(searched))
    trial.add([heads, *([head] for head in single)])
    _draw_until_decided(trial, matched.sets, stopping, 1 + len(single), progress)
    values = trial.values()
    return Effects(
        selected=values[0],
        alone={str(head): values[1 + number] for number, head in enumerate(single)},
        random=values[1 + len(single) :],
        matched=matched,
        numbers=sorted(trial.read),
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


@dataclass
class _Trial:
    """The effects of sets of heads on the prompts read so far.

    Attributes:
        change: measures the effects of sets on prompts, [set prompt].
        prompts: all of them.
        read: numbers of the prompts read so far.
        sets: so far.
        effects: of the sets on the prompts read, [set prompt].
    """

    change: Callable[[Sequence[Prompt], Sets], Array]
    prompts: Sequence[Prompt]
    read: list[int]
    sets: list[Sequence[Head]] = field(default_factory=list)
    effects: Array = field(init=False)

    def __post_init__(self) -> None:
        self.effects = np.empty((0, len(self.read)))

    @property
    def whole(self) -> bool:
        """Whether all prompts are read."""
        return len(self.read) == len(self.prompts)

    def add(self, sets: Sets) -> None:
        """Measure more sets on the prompts read so far."""
        found = self.change([self.prompts[number] for number in self.read], sets)
        self.sets, self.effects = [*self.sets, *sets], np.concatenate([self.effects, found])

    def read_all(self) -> None:
        """Measure the sets so far on the other prompts too."""
        rest = sorted({*range(len(self.prompts))} - {*self.read})
        found = self.change([self.prompts[number] for number in rest], self.sets)
        self.read, self.effects = [*self.read, *rest], np.concatenate([self.effects, found], axis=1)

    def values(self) -> Array:
        """The effects, with prompts in ascending order."""
        return self.effects[:, np.argsort(self.read)]


def _draw_until_decided(
    trial: _Trial, sets: Sets, stopping: StoppingRule, random_from: int, progress: Progress
) -> None:
    """Draw random sets, stage by stage, and read the other prompts once the first third leaves the answer open."""
    drawn = 0
    for end in stopping.stages():
        progress(INTERVENTIONS, drawn, stopping.most)
        trial.add(sets[drawn:end])
        drawn = end
        answer = _answer(trial, stopping, random_from)
        if answer is None:
            trial.read_all()
            answer = _answer(trial, stopping, random_from)
        if answer != "open":
            break
    progress(INTERVENTIONS, stopping.most, stopping.most)


def _answer(trial: _Trial, stopping: StoppingRule, random_from: int) -> Answer | None:
    """What is known after the sets drawn so far; None if the other prompts are needed to tell."""
    mine, random = trial.effects[0], trial.effects[random_from:]
    if trial.whole:
        return stopping.answer(len(random), statistics.count_reaching(mine.mean(), random.mean(1)))
    surely, perhaps = reaching(mine, random, len(trial.prompts))
    answer = stopping.answer(len(random), perhaps)
    if answer != stopping.answer(len(random), surely):
        return None
    if answer == "cause" and not statistics.interval(mine)[0] > 0:
        return None
    return answer


def reaching(mine: Array, random: Array, planned: int) -> tuple[int, int]:
    """How many random sets surely, and how many perhaps, reach the effect of the selected heads on all prompts.

    By the t interval of the mean difference over all prompts, of which some were read (finite population).

    Args:
        mine: effects of the selected heads on the prompts read, [prompt].
        random: those of the random sets, [set prompt].
        planned: the number of all prompts.
    """
    difference, count = mine - random, random.shape[1]
    mean = difference.mean(1)
    spread = difference.std(1, ddof=1) * np.sqrt(1 / count - 1 / planned)
    half = stats.t.ppf((1 + _SURE) / 2, count - 1) * spread
    return int((mean + half <= 0).sum()), int((mean - half <= 0).sum())


def _first_third(sample: PromptSample) -> list[int]:
    """Numbers of the first third of the prompts of each family, and of at least four."""
    chosen = []
    for family in dict.fromkeys(sample.families):
        numbers = sample.of_family(family)
        chosen += numbers[: max(_FEWEST, -(-len(numbers) // 3))]
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
