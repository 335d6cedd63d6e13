"""The sequential Monte Carlo test: its error rates, by simulation and exactly, beside the test with all sets."""

import re

import numpy as np
import pytest
from scipy import stats

from headatlas.evidence.sequential import StoppingRule, stopping_rule
from places import ROOT

DRAWS = 40_000


def run(rule: StoppingRule, reaches: np.ndarray) -> tuple[str, int, int]:
    """Take the test on a sequence of sets that reach the effect or do not."""
    for n in rule.stages():
        k = int(reaches[:n].sum())
        if (answer := rule.answer(n, k)) != "open" or n == rule.most:
            return answer, n, k
    raise AssertionError("the test did not end")


def answers(rule: StoppingRule, reaches: np.ndarray) -> list[tuple[str, int, int]]:
    return [run(rule, each) for each in reaches]


def exchangeable(most: int, rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Whether each of `most` random sets reaches the effect of heads that are no different: [draw set]."""
    effects = rng.normal(size=(draws, most + 1))
    return effects[:, 1:] >= effects[:, :1]


@pytest.mark.parametrize("most", [200, 19, 100])
class TestErrorRates:
    def test_false_positives_stay_at_five_percent(self, most: int) -> None:
        rule = stopping_rule(most)
        found = answers(rule, exchangeable(most, np.random.default_rng(0)))
        rate = np.mean([answer == "cause" for answer, _, _ in found])
        assert rule.level() <= 0.05 + 1e-12
        assert abs(rate - rule.level()) < 4 * np.sqrt(0.05 * 0.95 / DRAWS)

    def test_p_is_valid(self, most: int) -> None:
        """Heads that are no different get a p value of at most t with a probability of at most t."""
        rule = stopping_rule(most)
        p = np.array([rule.p(n, k) for _, n, k in answers(rule, exchangeable(most, np.random.default_rng(1), 4000))])
        for t in (0.02, 0.05, 0.1, 0.3, 0.6):
            assert (p <= t).mean() <= t + 4 * np.sqrt(t * (1 - t) / len(p))

    def test_a_cause_has_a_p_of_at_most_five_percent(self, most: int) -> None:
        rule = stopping_rule(most)
        for n in rule.stages():
            for k in range(n + 1):
                if rule.answer(n, k) == "cause":
                    assert rule.p(n, k) <= 0.05 + 1e-9
                elif rule.answer(n, k) == "no cause":
                    assert rule.p(n, k) > 0.05

    @pytest.mark.parametrize("reached", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05])
    def test_power_is_that_of_all_sets(self, most: int, reached: float) -> None:
        rule = stopping_rule(most)
        rng = np.random.default_rng(2)
        power = np.mean([answer == "cause" for answer, _, _ in answers(rule, rng.random((4000, most)) < reached)])
        full = stats.binom.cdf(rule.limit, most, reached)
        assert power >= full - 4 * np.sqrt(max(full * (1 - full), 1e-4) / 4000)


class TestEconomy:
    def test_two_hundred_sets_are_rarely_needed(self) -> None:
        """Heads above all others take 68 sets, heads like the others about 37 on average."""
        rule = stopping_rule(200)
        assert run(rule, np.zeros(200, dtype=bool)) == ("cause", 68, 0)
        drawn = [n for _, n, _ in answers(rule, exchangeable(200, np.random.default_rng(3), 4000))]
        assert np.mean(drawn) < 45

    def test_no_cause_is_always_the_answer_of_all_sets(self) -> None:
        rule = stopping_rule(200)
        for reaches in exchangeable(200, np.random.default_rng(4), 4000):
            answer, n, _ = run(rule, reaches)
            if answer == "no cause":
                assert reaches.sum() > rule.limit, f"stopped after {n}"

    def test_a_cause_is_rarely_another_answer(self) -> None:
        rule = stopping_rule(200)
        sets = exchangeable(200, np.random.default_rng(5))
        other = [reaches.sum() > rule.limit for reaches in sets if run(rule, reaches)[0] == "cause"]
        assert np.mean(other) < 0.02


def exactly(rule: StoppingRule, reached: float) -> tuple[float, float]:
    """Power, and the mean number of sets, if each set reaches the effect with this probability."""
    going, stages, power, sets = {0: 1.0}, set(rule.stages()), 0.0, 0.0
    for n in range(1, rule.most + 1):
        after: dict[int, float] = {}
        for k, chance in going.items():
            for more, share in ((1, reached), (0, 1 - reached)):
                after[k + more] = after.get(k + more, 0.0) + chance * share
        ends = {k: rule.answer(n, k) for k in after if n in stages and (rule.answer(n, k) != "open" or n == rule.most)}
        power += sum(after[k] for k, answer in ends.items() if answer == "cause")
        sets += n * sum(after[k] for k in ends)
        going = {k: chance for k, chance in after.items() if k not in ends}
    return power, sets


def test_the_page_of_verdicts_says_the_same() -> None:
    rule, page = stopping_rule(200), (ROOT / "site" / "verdicts.md").read_text()
    rows = re.findall(r"^\| (\d+)% \| ([\d.]+)% \| ([\d.]+)% \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 7
    for reached, power, full, sets in rows:
        share = int(reached) / 100
        exact, mean = exactly(rule, share)
        assert (power, sets) == (f"{100 * exact:.1f}", f"{mean:.0f}")
        assert full == f"{100 * stats.binom.cdf(rule.limit, 200, share):.1f}"
    assert f"{100 * rule.level():.3f}%" in page and f"{100 * stopping_rule(19).level():.2f}%" in page
    power, _ = exactly(stopping_rule(19), 0.02)
    assert f"with a probability of 2%, it shows a cause in {100 * power:.0f}% of tests" in " ".join(page.split())


def test_a_quick_test_stops_halfway_without_a_cause() -> None:
    rule = stopping_rule(19)
    assert list(rule.stages()) == [10, 19]
    assert run(rule, np.arange(19) == 3) == ("no cause", 10, 1) and run(rule, np.zeros(19)) == ("cause", 19, 0)


class TestEdges:
    def test_the_limit_is_that_of_the_permutation_test(self) -> None:
        assert [stopping_rule(most).limit for most in (18, 19, 40, 200)] == [-1, 0, 1, 9]

    def test_too_few_sets_show_no_cause(self) -> None:
        assert stopping_rule(18).answer(18, 0) == "no cause"

    def test_all_sets_that_exist_are_drawn_for_a_cause(self) -> None:
        """If the random sets are all that exist, not drawn from more, the exact answer is there to be had."""
        rule = stopping_rule(200, early=False)
        assert run(rule, np.zeros(200, dtype=bool)) == ("cause", 200, 0)
        assert rule.p(200, 9) == pytest.approx(10 / 201)

    def test_reasons(self) -> None:
        rule = stopping_rule(200)
        assert rule.reason(200, 3) == ""
        assert (
            rule.reason(68, 0)
            == "none of the first 68 of 200 random sets reaches the effect, few enough to show a cause"
        )
        assert rule.reason(20, 12) == "12 of the first 20 of 200 random sets reach the effect, and at most 9 of 200 may"
