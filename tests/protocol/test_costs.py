"""The work that findings are expected to be: known before they run, and named as they report it."""

import pytest

import headatlas
from headatlas.lab import OpenModel
from headatlas.progress import Step, Task
from headatlas.protocol import costs
from headatlas.protocol.budget import FULL, QUICK_LARGE, Amount
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
    more = by_id(specimen, Amount(None, None, 400, None))["induction"]
    assert step(more, costs.INTERVENTIONS).weight == 2 * step(task, costs.INTERVENTIONS).weight


def test_costly_scores_are_a_kind_of_their_own(specimen: OpenModel) -> None:
    tasks, kinds = by_id(specimen), set()
    for id in IDS:
        script, one = load_script(id), step(tasks[id], costs.scores_step("test"))
        kinds.add(one.kind)
        assert (one.kind == "attention") == (script.detect is None)
        assert (one.kind in COSTS) == (script.cost is not None)
    assert {*COSTS, "attention", "own", "sweep"} == kinds


def test_each_seed_has_steps_of_its_own(specimen: OpenModel) -> None:
    one, two = by_id(specimen)["successor"], by_id(specimen, seeds=(3, 4))["successor"]
    assert two.weight == 2 * one.weight
    assert [each.what for each in two.steps] == [
        costs.seed_name(seed, each.what) for seed in (3, 4) for each in one.steps
    ]


def test_what_cannot_be_drawn_is_no_work(specimen: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise UntestableError("the words are missing")

    script = load_script("induction")
    monkeypatch.setattr(script.module, "stimulus", nothing)
    rule = CATALOG.heads["induction"].rule
    assert rule and costs.steps(script, rule, specimen, FULL) == []
