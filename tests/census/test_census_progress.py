"""What a census tells while it runs: units of work with their steps, and nothing left of what is measured already."""

from collections.abc import Sequence
from pathlib import Path

import headatlas
from headatlas.census import parallel
from headatlas.census.parallel import CensusRequest
from headatlas.lab import OpenModel
from headatlas.progress import RunProgress, Task

CATALOG = headatlas.load()
FEW = ("duplicate-token", "iteration", "mover", "successor")  # two that share runs of the model, two that do not


class Heard(RunProgress):
    def __init__(self) -> None:
        self.steps: dict[str, list[tuple[str, int, int]]] = {}
        self.ended: list[str] = []

    def plan(self, tasks: Sequence[Task], workers: int = 1, before: int = 0) -> None:
        self.tasks, self.workers = {task.id: task for task in tasks}, workers

    def step(self, id: str, what: str, done: int, total: int) -> None:
        self.steps.setdefault(id, []).append((what, done, total))

    def end(self, id: str) -> None:
        self.ended.append(id)


def test_units_of_work_are_planned_and_each_tells_its_steps(tmp_path: Path) -> None:
    order, heard, again = CensusRequest("specimen", prompts=2, types=FEW), Heard(), Heard()
    parallel.run_census(CATALOG, order, tmp_path, 1, heard)
    assert {id: task.count for id, task in heard.tasks.items()} == {
        "2 types by attention": 2,
        "mover": 1,
        "successor": 1,
    }
    assert sorted(heard.ended) == sorted(heard.tasks) and heard.workers == 1
    for id, task in heard.tasks.items():
        names = list(dict.fromkeys(what for what, _, _ in heard.steps[id]))
        planned = [step.what for step in task.steps]
        assert task.weight > 0 and len(names) >= 2
        assert names == [name for name in planned if name in names], "steps come in the order of the plan"
    parallel.run_census(CATALOG, order, tmp_path, 1, again)
    assert [task.weight for task in again.tasks.values()] == [0, 0, 0] and sorted(again.ended) == sorted(again.tasks)


def test_two_processes_start_with_the_largest_unit(tmp_path: Path, specimen: OpenModel) -> None:
    heard = Heard()
    order = CensusRequest("specimen", prompts=2, types=("successor", "mover"), cause=False)
    plan, folder = parallel.run_census(CATALOG, order, tmp_path, 2, heard)
    weights = [task.weight for task in heard.tasks.values()]
    assert weights == sorted(weights, reverse=True) and heard.workers == 2
    assert sorted(heard.steps) == sorted(heard.ended) == sorted(plan.settings.types)
    assert len(list((folder / "parts").iterdir())) == 2
