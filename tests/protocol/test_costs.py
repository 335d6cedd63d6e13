"""The work that findings are expected to be: known before they run, and named as they report it."""

import pytest

import headatlas
from headatlas.lab import OpenModel, open_model
from headatlas.lab.running.passes import count_passes
from headatlas.progress import Step, Task, seed_name
from headatlas.protocol import costs, work
from headatlas.protocol.budget import FULL, QUICK_LARGE, SMALL, Amount
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_behaviour, measure_scores
from headatlas.protocol.script import load_script
from headatlas.protocol.script_check import COSTS
from headatlas.stimuli import UntestableError

CATALOG = headatlas.load()
IDS = sorted(id for id, entry in CATALOG.heads.items() if entry.rule)


def by_id(model: OpenModel, amount: Amount = FULL, seeds: tuple[int, ...] = (0,)) -> dict[str, Task]:
    return {task.id: task for task in costs.tasks(CATALOG, IDS, model, amount, seeds)}


def step(task: Task, what: str) -> Step:
    (found,) = (each for each in task.steps if each.what == what)
    return found


def near(planned: float, counted: float, tokens: float) -> bool:
    """Whether a plan and a count differ by no more than a factor of 1.5, or than half a run of the prompts."""
    return max(planned, counted) <= 1.5 * min(planned, counted) + 0.5 * tokens


def test_every_finding_has_work_and_a_quick_one_less(specimen: OpenModel) -> None:
    full, quick = by_id(specimen), by_id(specimen, QUICK_LARGE)
    assert list(full) == IDS and all(task.weight > 0 for task in full.values())
    fitted = {id for id in IDS if CATALOG.heads[id].rule.detection.fitted}  # type: ignore[union-attr]
    for id in IDS:
        assert quick[id].weight < full[id].weight
        what = costs.scores_step("find")
        assert (step(quick[id], what).weight < step(full[id], what).weight) == (id not in fitted)


def test_prompts_and_their_length_count(specimen: OpenModel) -> None:
    task, rule = by_id(specimen)["induction"], CATALOG.heads["induction"].rule
    assert rule
    drawn = load_script("induction").draw("stimulus", specimen.vocabulary, "find", rule.find, 0)
    tokens = sum(len(prompt.tokens) for prompt in drawn.prompts)
    assert abs(step(task, costs.scores_step("find")).weight / (2 * tokens) - 1) < 0.1


def test_interventions_end_at_the_first_look_at_which_they_can(specimen: OpenModel) -> None:
    def weight(sets: int) -> float:
        return step(by_id(specimen, Amount(None, None, sets, 0))["induction"], costs.INTERVENTIONS).weight

    assert weight(200) / weight(19) == pytest.approx((68 + 1) / (19 + 1))
    assert weight(0) == 0
    alone = step(by_id(specimen, Amount(None, None, 200, 20))["induction"], costs.INTERVENTIONS).weight
    assert weight(200) < alone < 1.2 * weight(200)


def test_costly_scores_are_a_kind_of_their_own(specimen: OpenModel) -> None:
    tasks, kinds = by_id(specimen), set()
    for id in IDS:
        script, one = load_script(id), step(tasks[id], costs.scores_step("test"))
        kinds.add(one.kind)
        assert (one.kind == "attention") == (script.detect is None)
        assert (one.kind in COSTS) == (script.cost is not None)
    assert {*COSTS, "attention", "own"} == kinds


@pytest.mark.parametrize("id", IDS)
def test_the_fit_of_the_work_of_a_score_meets_its_counts(id: str) -> None:
    if id == "vulnerable" and id not in work.counts():
        pytest.skip("its prompts are made for none of the models that were counted")
    for count in work.counts()[id]:
        expected = work.fit_of(id).work(count.tokens, count.prompts, count.heads)
        assert near(expected, count.work, count.tokens), count.model


class TestFit:
    def made(self, monkeypatch: pytest.MonkeyPatch, *rows: work.Count) -> work.Fit:
        monkeypatch.setattr(work, "counts", lambda: {"one": list(rows), "other": [rows[0]._replace(seconds=1.0)] * 3})
        work._fits.cache_clear()
        monkeypatch.setattr(work, "_fits", work._fits.__wrapped__)
        return work.fit_of("one")

    def test_two_models_tell_tokens_from_heads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small = work.Count("small", 48, 10, 300, 3 * 300 + 0.5 * 480, 1, 1.0)
        large = work.Count("large", 270, 20, 900, 3 * 900 + 0.5 * 270 * 20, 1, 1.0)
        fit = self.made(monkeypatch, small, large)
        assert (fit.per_token, fit.per_head) == pytest.approx((3.0, 0.5))
        assert fit.work(100, 2, 100) == pytest.approx(400.0)

    def test_one_model_tells_no_heads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fit = self.made(monkeypatch, work.Count("small", 48, 10, 300, 600, 1, 1.0))
        assert (fit.per_token, fit.per_head) == (pytest.approx(2.0), 0.0)

    def test_slow_work_has_a_pace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fit = self.made(monkeypatch, work.Count("small", 48, 10, 300, 600, 1, 4.0))
        assert fit.pace == pytest.approx(4.0)

    def test_what_was_not_counted_is_guessed(self) -> None:
        assert work.fit_of("unheard-of").work(10, 1, 48) == 50


# Types of every kind: pairs, weights alone, patched heads, patched paths, probes, training
@pytest.mark.parametrize(
    "id",
    [
        each if each in {"induction", "mover", "successor"} else pytest.param(each, marks=pytest.mark.slow)
        for each in IDS
    ],
)
@pytest.mark.parametrize("name", ["specimen"])
def test_the_plan_counts_what_is_run(id: str, name: str) -> None:
    model, rule = open_model(name), CATALOG.heads[id].rule  # opened anew: nothing is known of it yet
    assert rule
    script = load_script(id)
    try:
        stimuli = draw(script, rule, model, 1, prompts=QUICK_LARGE.drawn(rule))
    except UntestableError:
        return
    planned = costs.expected(script, rule, model, QUICK_LARGE, stimuli)
    with count_passes(model) as counted:
        measure_behaviour(script, model, stimuli.task)
    assert counted.tokens == pytest.approx(planned.behaviour)
    with count_passes(model) as counted:
        for sample in (stimuli.find, stimuli.test):
            measure_scores(script, model, sample)
    tokens = sum(len(prompt.tokens) for sample in (stimuli.find, stimuli.test) for prompt in sample.prompts)
    assert near(planned.find + planned.test, counted.tokens, tokens)


def test_each_seed_has_steps_of_its_own(specimen: OpenModel) -> None:
    one, two = by_id(specimen)["successor"], by_id(specimen, seeds=(3, 4))["successor"]
    assert two.weight == pytest.approx(2 * one.weight)
    assert [each.what for each in two.steps] == [seed_name(seed, each.what) for seed in (3, 4) for each in one.steps]


def test_what_cannot_be_drawn_is_no_work(specimen: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise UntestableError("the words are missing")

    script = load_script("induction")
    monkeypatch.setattr(script.module, "stimulus", nothing)
    rule = CATALOG.heads["induction"].rule
    assert rule and costs.steps(script, rule, specimen, FULL) == []


class TestMorePrompts:
    """Where a quick budget's prompts are too few to tell."""

    def asked(
        self, id: str, model: OpenModel, amount: Amount, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> int | None:
        monkeypatch.setattr(costs, "parameters", lambda _: size)
        script, rule = load_script(id), CATALOG.heads[id].rule
        assert rule
        return costs.more_prompts(script, rule, model, amount, draw(script, rule, model, 0, amount.drawn(rule)))

    def test_all_of_the_rule_for_a_small_model(self, specimen: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
        for id in ("induction", "mover"):
            rule = CATALOG.heads[id].rule
            assert rule and self.asked(id, specimen, QUICK_LARGE, monkeypatch, SMALL - 1) == rule.find

    def test_twice_as_many_for_a_large_model_where_that_is_little_work(
        self, specimen: OpenModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.asked("induction", specimen, QUICK_LARGE, monkeypatch, SMALL) == 8
        monkeypatch.setattr(costs, "_AFFORDED", 1_000)
        assert self.asked("mover", specimen, QUICK_LARGE, monkeypatch, SMALL) is None

    def test_no_more_than_the_rule_says(self, specimen: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.asked("induction", specimen, FULL, monkeypatch, SMALL) is None
        rule = CATALOG.heads["induction"].rule
        assert rule
        assert self.asked("induction", specimen, Amount(rule.find, 4, 19, 3), monkeypatch, SMALL) is None
        assert self.asked("truthfulness", specimen, QUICK_LARGE, monkeypatch, SMALL) is None  # fitted: all are drawn
