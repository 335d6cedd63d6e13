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
from headatlas.protocol.budget import FULL, first_third
from headatlas.protocol.costs import INTERVENTIONS
from headatlas.protocol.script import PromptSample, Script
from headatlas.stimuli.prompts import Prompt

_SURE = 0.99  # confidence that a random set reaches the effect, or does not, on all prompts

Sets = Sequence[Sequence[Head]]


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
    trial = _Trial(change, searched.prompts, _first_third(searched), 1 + len(single))
    _draw_until_decided(trial, [heads, *([head] for head in single)], matched.sets, stopping, progress)
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


@dataclass
class _Trial:
    """The effects of sets of heads on the prompts read so far.

    Attributes:
        change: measures the effects of sets on prompts, [set prompt].
        prompts: all of them.
        first: numbers of those that are read first.
        own: how many sets, from the first, are not random: the selected heads, and single ones.
        sets: so far.
        effects: of the sets, [set prompt]; NaN where a prompt was not read with a set.
    """

    change: Callable[[Sequence[Prompt], Sets], Array]
    prompts: Sequence[Prompt]
    first: list[int]
    own: int
    sets: list[Sequence[Head]] = field(default_factory=list)
    effects: Array = field(init=False)

    def __post_init__(self) -> None:
        self.effects = np.empty((0, len(self.prompts)))

    @property
    def read(self) -> Array:
        """Whether a prompt was read with the selected heads, [prompt]."""
        return np.asarray(~np.isnan(self.effects[0]))

    @property
    def random(self) -> Array:
        """The effects of the random sets, [set prompt]."""
        return self.effects[self.own :]

    def add(self, sets: Sets) -> None:
        """Measure more sets on the prompts that are read first."""
        self.effects = np.concatenate([self.effects, np.full((len(sets), len(self.prompts)), np.nan)])
        self.sets += sets
        self._measure(range(len(self.sets) - len(sets), len(self.sets)), self.first)

    def read_on(self) -> None:
        """Read the other prompts with the selected heads, and with random sets that are not told from them."""
        open_sets = self.own + np.flatnonzero(np.diff(self.reaching(), axis=0)[0])
        rest = [number for number in range(len(self.prompts)) if number not in set(self.first)]
        self._measure([*(() if self.read.all() else range(self.own)), *open_sets.tolist()], rest)

    def reaching(self) -> Array:
        """Whether each random set surely, and whether it perhaps reaches the selected heads, [2 set]."""
        whole = ~np.isnan(self.random).any(1)
        found = np.array(reaching(self.effects[0, self.first], self.random[:, self.first], len(self.prompts)))
        if whole.any():
            found[:, whole] = reaching(self.effects[0], self.random[whole], len(self.prompts))
        return found

    def _measure(self, numbers: Sequence[int], prompts: Sequence[int]) -> None:
        if numbers and prompts:
            chosen = [self.sets[number] for number in numbers]
            self.effects[np.ix_(numbers, prompts)] = self.change([self.prompts[number] for number in prompts], chosen)


def _draw_until_decided(trial: _Trial, own: Sets, sets: Sets, stopping: StoppingRule, progress: Progress) -> None:
    """Intervene on the trial's own sets and, stage by stage, on random ones; read on where a third leaves it open."""
    drawn = 0
    for end in stopping.stages():
        progress(INTERVENTIONS, drawn, min(look for look in stopping.looks if look > drawn))
        trial.add([*own[len(trial.sets) :], *sets[drawn:end]])
        drawn = end
        answer = _answer(trial, stopping)
        if answer is None:
            trial.read_on()
            answer = _answer(trial, stopping)
        if answer != "open":
            break
    progress(INTERVENTIONS, stopping.most, stopping.most)


def _answer(trial: _Trial, stopping: StoppingRule) -> Answer | None:
    """What is known after the sets drawn so far; None if other prompts are needed to tell."""
    surely, perhaps = trial.reaching().sum(1).tolist()
    answer = stopping.answer(len(trial.random), perhaps)
    if answer != stopping.answer(len(trial.random), surely):
        return None
    if answer == "cause" and not trial.read.all() and not statistics.interval(trial.effects[0, trial.first])[0] > 0:
        return None
    return answer


def reaching(mine: Array, random: Array, planned: int) -> tuple[Array, Array]:
    """Whether random sets surely, and whether they perhaps reach the effect of the selected heads on all prompts.

    By the t interval of the mean difference over all prompts, of which some were read (finite population).

    Args:
        mine: effects of the selected heads on the prompts read, [prompt].
        random: those of the random sets, [set prompt].
        planned: the number of all prompts.

    Returns:
        Two of [set].
    """
    difference, count = mine - random, random.shape[1]
    mean = difference.mean(1)
    spread = difference.std(1, ddof=1) * np.sqrt(1 / count - 1 / planned)
    half = stats.t.ppf((1 + _SURE) / 2, count - 1) * spread
    return mean + half <= 0, mean - half <= 0


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
