"""Takes a census of a named model in several processes; only a process that opens the model loads torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.census import budget, cache
from headatlas.census.budget import Budget
from headatlas.census.cache import Plan
from headatlas.census.schema import CensusSettings
from headatlas.progress import Notify, Progress, no_notice
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.workers import opened, pool

if TYPE_CHECKING:
    from headatlas.lab import OpenModel

_LIGHT = 200 * 2**20  # bytes of weights that every process may hold for itself


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
        return budget.resolve_settings(catalog, size, self.budget, self.prompts, self.types, self.cause, self.seed)


def run_census(
    catalog: Catalog, order: CensusRequest, out: Path, jobs: int | None, report: Progress, tell: Notify = no_notice
) -> tuple[Plan, Path]:
    """Measure all types of a shard, and leave their parts below <out>/<model>.

    Args:
        catalog: that the types are in.
        order: the model, the budget, the shard.
        out: the folder.
        jobs: processes that share the work, each with the model and one thread; by default one per core where the
            model is light, else one with all threads.
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
        plan, folder, mine, moved = _begun(catalog, model, order, out)
        if moved:
            tell(moved)
        ids = [id for unit in mine for id in unit]
        for done, part in enumerate(running.measure_types(catalog, model, plan, folder, ids, report), 1):
            report(part.entry.id, done, len(ids))
        return plan, cache.home_of(out, plan.model)


def default_jobs(order: CensusRequest) -> int:
    """One process per core for a light model that is at hand and runs on the processor, else one."""
    name = order.model
    if order.options.device not in (None, "cpu"):
        return 1
    folder = specimens.place(name) if name in specimens.names() else Path(name)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0
    return max(1, os.cpu_count() or 1) if 0 < weights <= _LIGHT else 1


Begun = tuple[Plan, Path, list[list[str]], str | None]


def _begun(catalog: Catalog, model: OpenModel, order: CensusRequest, out: Path) -> Begun:
    """The plan, written to the folder of the census, the units of work of this shard, and what to tell the user."""
    from headatlas.census import running

    plan = running.plan_of(catalog, model, order.settings(catalog, budget.parameters(model)))
    moved = cache.claim(out, plan.model)
    folder = cache.home_of(out, plan.model)
    cache.write_plan(plan, folder)
    return plan, folder, running.units(plan.settings, order.shard), moved


# --- over several processes -------------------------------------------------------------------------------------


def _ready() -> None:
    """Do nothing; a process that takes this has started."""


def _begin(order: CensusRequest, out: Path) -> Begun:
    return _begun(*opened(), order, out)


def _work(plan: Plan, folder: Path, ids: Sequence[str]) -> int:
    from headatlas.census import running

    return sum(1 for _ in running.measure_types(*opened(), plan, folder, ids))


def _shared(order: CensusRequest, out: Path, jobs: int, report: Progress, tell: Notify) -> tuple[Plan, Path]:
    """The processes open the model and share the units of work; this one only waits."""
    with pool(jobs, order.model, order.options) as workers:
        beginning = workers.submit(_begin, order, out)
        for _ in range(jobs - 1):
            workers.submit(_ready)  # one each, so that all of them start
        plan, folder, mine, moved = beginning.result()
        if moved:
            tell(moved)
        total, done = sum(map(len, mine)), 0
        report("measuring", 0, total)
        waiting: set[Future[int]] = {workers.submit(_work, plan, folder, unit) for unit in mine}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            done += sum(future.result() for future in ready)
            report("measuring", done, total)
        return plan, cache.home_of(out, plan.model)
