"""The causal test: random sets and prompts in stages give the answer of all of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import headatlas
from headatlas.arrays import Array
from headatlas.evidence.sequential import StoppingRule, stopping_rule
from headatlas.lab import OpenModel, ablate_sets
from headatlas.notation import Head
from headatlas.protocol import interventions
from headatlas.protocol.assess import cause_of
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.interventions import Effects, measure_effects
from headatlas.protocol.script import PromptSample, load_script
from headatlas.protocol.trial import Sets, Trial, draw_until_decided, reaching

PROMPTS, SETS, TRIALS = 36, 200, 1500
_RULE = headatlas.load().heads["induction"].rule
assert _RULE
RULE = _RULE  # decrease, 95%
FAMILIES = [family for family in "abc" for _ in range(PROMPTS // 3)]


def staged(effects: Array) -> tuple[bool, int, float]:
    """Take the test on made effects, [1 + set prompt]: a cause or not, sets drawn, prompts read with each set."""
    places = {(Head(0, number),): number for number in range(len(effects))}

    def change(prompts: Sequence[int], sets: Sets) -> Array:
        found: Array = effects[np.ix_([places[tuple(each)] for each in sets], list(prompts))]
        return found

    sample = PromptSample(list(range(PROMPTS)), FAMILIES, "test")  # type: ignore[arg-type]
    trial = Trial(change, sample.prompts, interventions._first_third(sample), 1)  # type: ignore[arg-type]
    rule = stopping_rule(SETS)
    sets = [(Head(0, number),) for number in range(1, 1 + SETS)]
    draw_until_decided(trial, [(Head(0, 0),)], sets, rule, lambda *_: None)
    cause = cause_of(RULE, as_effects(trial, rule))
    assert cause and len(cause.random_effects) == len(trial.random)
    read = ~np.isnan(trial.effects)
    assert np.array_equal(trial.effects[read], effects[: len(read)][read])
    assert cause.on_a_third == (~read[1:, trial.read]).any(1).sum()
    return cause.passed, len(trial.random), float(read.sum(1).mean())


def as_effects(trial: Trial, rule: StoppingRule) -> Effects:
    """The effects of a trial, as `measure_effects` gives them."""
    numbers = np.flatnonzero(trial.read).tolist()
    matched = interventions.statistics.matched_sets([Head(0, 0)], [Head(0, h) for h in range(300)], 0)
    return Effects(trial.effects[0, numbers], {}, trial.random[:, numbers], matched, numbers, PROMPTS, rule)


def whole(effects: Array) -> bool:
    """The answer of all sets on all prompts."""
    return bool((effects[1:].mean(1) >= effects[0].mean()).sum() <= 9 and effects[0].mean() > 0)


def made(rng: np.random.Generator, lead: float) -> Array:
    """Effects of 201 sets, [set prompt]: sets differ, prompts differ, and the first set leads by so much."""
    effects = rng.normal(size=(1 + SETS, 1)) + rng.normal(size=(1, PROMPTS)) + rng.normal(size=(1 + SETS, PROMPTS))
    effects[0] += lead
    return 3 + effects


class TestErrorRates:
    def test_false_positives_stay_at_five_percent(self) -> None:
        rng = np.random.default_rng(0)
        found = [staged(made(rng, 0.0)) for _ in range(TRIALS)]
        assert np.mean([cause for cause, _, _ in found]) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / TRIALS)
        assert np.mean([sets for _, sets, _ in found]) < 60
        assert np.mean([prompts for _, _, prompts in found]) < 0.65 * PROMPTS

    @pytest.mark.parametrize("lead", [1.0, 2.0, 3.0])
    def test_power_is_near_that_of_all_sets_and_prompts(self, lead: float) -> None:
        rng = np.random.default_rng(1)
        every = [made(rng, lead) for _ in range(400)]
        mine, full = [staged(each)[0] for each in every], [whole(each) for each in every]
        assert abs(np.mean(mine) - np.mean(full)) < 0.02
        assert np.mean(np.array(mine) != np.array(full)) < 0.03

    def test_a_large_effect_takes_few_sets_and_a_third_of_the_prompts(self) -> None:
        cause, sets, prompts = staged(made(np.random.default_rng(2), 8.0))
        assert (cause, sets, prompts) == (True, 68, 12)


def counts(mine: Array, random: Array, planned: int) -> tuple[int, int]:
    surely, perhaps = reaching(mine, random, planned)
    return int(surely.sum()), int(perhaps.sum())


class TestReaching:
    def test_clear_differences_are_sure(self) -> None:
        mine = np.array([1.0, 1.1, 0.9, 1.0])
        assert counts(mine, np.array([mine - 5, mine + 5, mine + 5]), planned=12) == (2, 2)

    def test_equal_effects_are_told_from_nothing_before_all_prompts_are_read(self) -> None:
        mine = np.array([1.0, 1.0, 0.0, 1.0])
        assert counts(mine, np.array([mine]), planned=12) == (0, 1)
        assert counts(mine, np.array([mine]), planned=4) == (1, 1)

    def test_noisy_differences_may_go_either_way(self) -> None:
        mine = np.array([1.0, -1.0, 1.0, -1.0])
        assert counts(mine, np.array([-mine + 0.01, -mine - 0.01]), planned=12) == (0, 2)

    def test_one_prompt_of_several_tells_nothing(self) -> None:
        mine = np.array([1.0])
        assert counts(mine, np.array([mine - 5, mine + 5]), planned=3) == (0, 2)
        assert counts(mine, np.array([mine - 5, mine + 5]), planned=1) == (1, 1)

    def test_nothing_is_open_where_all_prompts_are_read(self) -> None:
        mine = np.array([1.0, -1.0, 1.0, -1.0])
        assert counts(mine, np.array([-mine + 0.01, -mine - 0.01]), planned=4) == (1, 1)


class TestOnTheSpecimen:
    """Against plain calls of `ablate_sets` over all sets and prompts."""

    @pytest.mark.parametrize(
        "id, head", [("induction", Head(4, 5)), ("induction", Head(0, 0)), ("previous-token", Head(1, 1))]
    )
    def test_effects_are_those_of_all_prompts(self, id: str, head: Head, specimen: OpenModel) -> None:
        entry, script = headatlas.load().heads[id], load_script(id)
        assert entry.rule
        stimuli = draw(script, entry.rule, specimen, 0, prompts=6)
        found = measure_effects(script, entry.rule, specimen, stimuli.find, stimuli.task, [head], 0, random_sets=25)
        assert found
        prompts = stimuli.task.prompts
        drawn = found.matched.sets[: len(found.random)]
        metric, contrast = script.effect
        kind = interventions.intervention(script, entry.rule, specimen, stimuli.find)
        values = ablate_sets(specimen, prompts, metric, [(), [head], *drawn], kind, script.positions, contrast)
        sign = -1 if entry.rule.cause.direction == "decrease" else 1
        plain = sign * (values[1:] - values[0])[:, found.numbers]
        assert found.selected == pytest.approx(plain[0], abs=1e-4)
        assert found.alone[str(head)] == pytest.approx(plain[0], abs=1e-4)
        read = ~np.isnan(found.random)
        assert read.any(1).all() and found.random[read] == pytest.approx(plain[1:][read], abs=1e-4)

    def test_a_set_told_on_a_third_counts_by_its_difference_there(self) -> None:
        mine, random = np.array([1.0, 2.0, 6.0, 7.0]), np.array([[0.5, 1.5, np.nan, np.nan], [4.0, 4.0, 4.0, 6.0]])
        matched = interventions.statistics.matched_sets([Head(0, 0)], [Head(0, h) for h in range(300)], 0)
        effects = Effects(mine, {}, random, matched, [0, 1, 4, 5], 6, stopping_rule(200))
        cause = cause_of(RULE, effects)
        assert cause and cause.random_effects == pytest.approx([4.0 - 0.5, 4.5]) and cause.on_a_third == 1
        assert cause.share_exceeded == 50.0

    def test_the_record_says_how_many_and_why(self) -> None:
        entry = headatlas.load().heads["induction"]
        assert entry.rule
        rng = np.random.default_rng(0)
        matched = interventions.statistics.matched_sets([Head(0, 0)], [Head(0, h) for h in range(300)], 0)
        effects = Effects(
            5 + rng.normal(size=12),
            {},
            rng.normal(size=(68, 12)),
            matched,
            list(range(0, 36, 3)),
            36,
            stopping_rule(200),
        )
        cause = cause_of(entry.rule, effects)
        assert cause and cause.passed and (cause.n, cause.planned_n, cause.planned_sets) == (12, 36, 200)
        assert len(cause.random_effects) == 68 and cause.stopped.startswith("none of the first 68 of 200")
        assert cause.p == pytest.approx(1 / 69)
        assert cause_of(entry.rule, effects, [0, 1, 2]) is None  # one prompt of these was read: no interval
        some = cause_of(entry.rule, effects, [0, 3, 4, 5, 6])
        assert some and (some.n, some.planned_n, some.stopped) == (3, 5, "")
        lower = replace(effects, random=effects.random + 9)
        failed = cause_of(entry.rule, lower)
        assert failed and not failed.passed and failed.share_exceeded == 0 and failed.p > 0.9
