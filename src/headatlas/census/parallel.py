"""Takes a census of a named model in several processes; only a process that opens the model loads torch."""

from __future__ import annotations

import os
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.census import cache
from headatlas.census.cache import Plan
from headatlas.census.schema import CensusSettings
from headatlas.fetching import known, stored
from headatlas.progress import Notify, RunProgress, Task, no_notice
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.shared_model import ModelRequest, SharedModel, open_first, opened
from headatlas.protocol.workers import give_memory_back, pool, worker_progress

if TYPE_CHECKING:
    from headatlas.lab import OpenModel
    from headatlas.protocol.budget import Budget

_PROCESS = 800 * 2**20  # bytes that a process takes beside the weights, which all share


@dataclass(frozen=True)
class CensusRequest:
    """What was ordered: the model and how it is opened, how much to ask of it, and which share of the types."""

    model: str
    options: ModelOptions = field(default_factory=ModelOptions)
    budget: Budget = "quick"
    prompts: int | None = None
    types: tuple[str, ...] | None = None
    cause: bool = True
    seed: int = 0
    shard: tuple[int, int] = (1, 1)

    def settings(self, catalog: Catalog, size: int) -> CensusSettings:
        """The settings for a model with `size` parameters."""
        from headatlas.census import budget

        return budget.resolve_settings(catalog, size, self.budget, self.prompts, self.types, self.cause, self.seed)


def run_census(
    catalog: Catalog, order: CensusRequest, out: Path, jobs: int | None, report: RunProgress, tell: Notify = no_notice
) -> tuple[Plan, Path]:
    """Measure all types of a shard, and leave their parts below <out>/<model>.

    Args:
        catalog: that the types are in.
        order: the model, the budget, the shard.
        out: the folder.
        jobs: processes that share the work and the weights, each with one thread; by default as `default_jobs` says.
            One process uses all threads.
        report: told of progress.
        tell: told where the census of another model of the same name is moved.

    Returns:
        The plan, and the folder of the census.

    Raises:
        HeadatlasError: where the model cannot be opened, or the parts cannot be written.
    """
    number = jobs or default_jobs(order)
    report(f"opening {order.model}", 0, 0)
    if number > 1:
        return _shared(order, out, number, report, tell)
    from headatlas.census import running
    from headatlas.lab import open_model

    with open_model(order.model, **order.options.keywords(), progress=report) as model:
        begun = _begun(catalog, model, order, out)
        if begun.moved:
            tell(begun.moved)
        report.plan(begun.tasks)
        for unit, task in zip(begun.units, begun.tasks, strict=True):
            for _ in running.measure_types(catalog, model, begun.plan, begun.folder, unit, report.of(task.id)):
                pass
            report.end(task.id)
        return begun.plan, cache.home_of(out, begun.plan.model)


def default_jobs(order: CensusRequest) -> int:
    """One process per core for a model that is at hand, runs on the processor, and leaves half of the memory free."""
    if order.options.device not in (None, "cpu"):
        return 1
    cores, weights = max(1, os.cpu_count() or 1), _weights(order.model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return cores if 0 < weights <= memory / 2 - cores * _PROCESS else 1


def _weights(name: str) -> int:
    """Bytes of the weights of a model that is at hand; 0 for others."""
    if model := known.packaged(name):
        folder = stored.place(model)
    else:
        folder = specimens.place(name) if name in specimens.names() else Path(name)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0


@dataclass(frozen=True)
class _Begun:
    """A census that has begun.

    Attributes:
        plan: what all shards share.
        folder: of the census, where the plan is written.
        units: the types of this shard that are measured together, and their expected work.
        moved: what to tell the user of another model's census.
    """

    plan: Plan
    folder: Path
    units: list[list[str]]
    tasks: list[Task]
    moved: str | None


def _begun(catalog: Catalog, model: OpenModel, order: CensusRequest, out: Path) -> _Begun:
    """Write the plan, and see what is to be measured."""
    from headatlas.census import running
    from headatlas.protocol.budget import parameters

    plan = running.plan_of(catalog, model, order.settings(catalog, parameters(model)))
    moved = cache.claim(out, plan.model)
    folder = cache.home_of(out, plan.model)
    cache.write_plan(plan, folder)
    units = running.units(plan.settings, order.shard)
    return _Begun(plan, folder, units, running.tasks(catalog, model, plan, folder, units), moved)


# --- over several processes -------------------------------------------------------------------------------------


def _begin(request: ModelRequest, order: CensusRequest, out: Path) -> tuple[SharedModel, _Begun]:
    shared = open_first(request)
    return shared, _begun(*opened(shared), order, out)


def _work(shared: SharedModel, begun: _Begun, number: int) -> str:
    from headatlas.census import running

    task = begun.tasks[number]
    report = worker_progress().of(task.id)
    for _ in running.measure_types(*opened(shared), begun.plan, begun.folder, begun.units[number], report):
        pass
    give_memory_back()
    return task.id


def _shared(order: CensusRequest, out: Path, jobs: int, report: RunProgress, tell: Notify) -> tuple[Plan, Path]:
    """The workers open the model and share the units of work, the largest first; this process only waits."""
    with pool(jobs, order.model, order.options, report) as workers:
        shared, begun = workers.executor.submit(_begin, workers.request, order, out).result()
        if begun.moved:
            tell(begun.moved)
        largest = sorted(range(len(begun.units)), key=lambda number: -begun.tasks[number].weight)
        report.plan([begun.tasks[number] for number in largest], jobs)
        futures = [workers.executor.submit(_work, shared, begun, number) for number in largest]
        for future in as_completed(futures):
            report.end(future.result())
        return begun.plan, cache.home_of(out, begun.plan.model)
