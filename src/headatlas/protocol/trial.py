"""Compares the effect of some heads with those of random sets, on no more sets and prompts than the answer needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from headatlas.arrays import Array
from headatlas.evidence import statistics
from headatlas.evidence.sequential import Answer, StoppingRule
from headatlas.notation import Head
from headatlas.progress import Progress
from headatlas.protocol.costs import INTERVENTIONS
from headatlas.stimuli.prompts import Prompt

_SURE = 0.99  # confidence that a random set reaches the effect, or does not, on all prompts

Sets = Sequence[Sequence[Head]]


@dataclass
class Trial:
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


def draw_until_decided(trial: Trial, own: Sets, sets: Sets, stopping: StoppingRule, progress: Progress) -> None:
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


def _answer(trial: Trial, stopping: StoppingRule) -> Answer | None:
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

    By the t interval of the mean difference over all prompts, of which some were read (finite population). A set with
    the very effects of the selected heads, as a metric of few values gives, is not told from them before all are read.

    Args:
        mine: effects of the selected heads on the prompts read, [prompt].
        random: those of the random sets, [set prompt].
        planned: the number of all prompts.

    Returns:
        Two of [set].
    """
    difference, count = mine - random, random.shape[1]
    mean = difference.mean(1)
    if count == planned:
        return mean <= 0, mean <= 0
    if count < 2:  # no interval
        return np.zeros(len(random), dtype=bool), np.ones(len(random), dtype=bool)
    spread = difference.std(1, ddof=1) * np.sqrt(1 / count - 1 / planned)
    half = stats.t.ppf((1 + _SURE) / 2, count - 1) * spread
    tied = ~difference.any(1)
    return (mean + half <= 0) & ~tied, mean - half <= 0
