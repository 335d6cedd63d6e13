"""Takes a census: what is there is kept, a part is written as soon as it stands, processes share the work."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from headatlas import load, run, specimens
from headatlas.catalog.catalog import Catalog
from headatlas.census import budget, measuring, parts
from headatlas.census.budget import Budget
from headatlas.census.parts import Plan, TypePart
from headatlas.census.schema import Settings
from headatlas.errors import HeadatlasError
from headatlas.evidence.records import ModelRecord
from headatlas.lab import OpenModel, open_model
from headatlas.script import load_script

Report = Callable[[str, int, int], None]
_LIGHT = 200 * 2**20  # bytes of weights that every process may hold for itself


def _silent(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Order:
    """What was ordered: the model, how much to ask of it, and which share of the types."""

    model: str
    revision: str | None = None
    budget: Budget = "quick"
    prompts: int | None = None
    types: tuple[str, ...] | None = None
    cause: bool = True
    seed: int = 0
    shard: tuple[int, int] = (1, 1)

    def settings(self, catalog: Catalog, size: int) -> Settings:
        """What that means for a model of so many parameters."""
        return budget.settle(catalog, size, self.budget, self.prompts, self.types, self.cause, self.seed)


def plan_of(catalog: Catalog, model: OpenModel, settings: Settings) -> Plan:
    """What all shards of a census of this model share."""
    return Plan(model=run.model_record(model, run.catalog_id(catalog, model)), settings=settings)


def units(settings: Settings, shard: tuple[int, int] = (1, 1)) -> list[list[str]]:
    """The types that are measured together: all that go by attention between pairs, and every other by itself.

    A shard gets every n-th of them, so that no run of the model is made in two shards.
    """
    pairs = [id for id in settings.types if load_script(id).detect is None]
    every = [pairs] * bool(pairs) + [[id] for id in settings.types if id not in pairs]
    return every[shard[0] - 1 :: shard[1]]


def take(
    catalog: Catalog,
    model: OpenModel,
    plan: Plan,
    folder: Path | None = None,
    ids: Sequence[str] | None = None,
    report: Report = _silent,
) -> Iterator[TypePart]:
    """Measure types on a model that is open.

    Args:
        catalog: that they are in.
        model: to measure.
        plan: of the census.
        folder: where parts are kept; what is there already and has not changed is not measured again.
        ids: of the types; by default all of the plan.
        report: told of progress.

    Yields:
        A part per type, written before it is yielded.
    """
    chosen = plan.settings.types if ids is None else ids
    waiting: list[measuring.Job] = []
    for id in chosen:
        job = measuring.start(catalog, id, plan.model, plan.settings)
        known = parts.kept(folder, id, job.key) if folder else None
        if known:
            yield known
        else:
            waiting.append(job)
    pairs = [job for job in waiting if job.script.detect is None]
    for part in measuring.measure_pairs(pairs, model, report):
        yield _written(part, folder)
    for job in waiting:
        if job.script.detect is not None:
            report(job.key.entry.id, 0, 0)
            yield _written(measuring.measure(job, model), folder)


def _written(part: TypePart, folder: Path | None) -> TypePart:
    if folder:
        parts.write(part, folder)
    return part


# --- a model by its name, over several processes --------------------------------------------------------------------


def take_all(catalog: Catalog, order: Order, out: Path, jobs: int | None, report: Report) -> tuple[Plan, Path]:
    """Measure all types of a shard, and leave their parts below <out>/<model>.

    Args:
        catalog: that the types are in.
        order: the model, the budget, the shard.
        out: the folder.
        jobs: processes that share the work, each with the model and one thread; by default one per core where the
            model is light, else one with all threads.
        report: told of progress.

    Returns:
        The plan, and the folder of the census.

    Raises:
        HeadatlasError: where the model cannot be opened, or the parts cannot be written.
    """
    number = jobs or default_jobs(order.model)
    if number == 1:
        report(f"opening {order.model}", 0, 0)
        with open_model(order.model, order.revision) as model:
            settings = order.settings(catalog, budget.parameters(model))
            plan, folder = _begin(plan_of(catalog, model, settings), model.id, out)
            ids = [id for unit in units(settings, order.shard) for id in unit]
            for done, part in enumerate(take(catalog, model, plan, folder, ids, report), 1):
                report(part.entry.id, done, len(ids))
            return plan, folder
    return _shared(catalog, order, out, number, report)


def default_jobs(name: str) -> int:
    """One process per core for a light model that is at hand, else one."""
    folder = specimens.place(name) if name in specimens.names() else Path(name)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder.is_dir() else 0
    return max(1, os.cpu_count() or 1) if 0 < weights <= _LIGHT else 1


def _begin(plan: Plan, model_id: str, out: Path) -> tuple[Plan, Path]:
    folder = parts.folder_of(out, model_id)
    parts.write_plan(plan, folder)
    return plan, folder


_at_work: tuple[Catalog, OpenModel] | None = None


def _start(order: Order) -> None:
    global _at_work
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a word
    torch.set_num_threads(1)
    _at_work = load(), open_model(order.model, order.revision)


def _describe() -> tuple[ModelRecord, str, int]:
    assert _at_work is not None
    catalog, model = _at_work
    return run.model_record(model, run.catalog_id(catalog, model)), model.id, budget.parameters(model)


def _work(plan: Plan, folder: Path, ids: Sequence[str]) -> int:
    assert _at_work is not None
    catalog, model = _at_work
    return sum(1 for _ in take(catalog, model, plan, folder, ids))


def _shared(catalog: Catalog, order: Order, out: Path, jobs: int, report: Report) -> tuple[Plan, Path]:
    """The processes open the model while this one waits; the longest units are worked first."""
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_guarded_start, initargs=(order,)
    )
    try:
        report(f"opening {order.model}", 0, 0)
        opening = [pool.submit(_describe_or_say) for _ in range(jobs)]  # one each, so that all of them start
        described = opening[0].result()
        if isinstance(described, str):
            raise HeadatlasError(described)
        record, model_id, size = described
        settings = order.settings(catalog, size)
        plan, folder = _begin(Plan(model=record, settings=settings), model_id, out)
        mine = units(settings, order.shard)
        total, done = sum(map(len, mine)), 0
        report("measuring", 0, total)
        waiting: set[Future[int]] = {pool.submit(_work, plan, folder, unit) for unit in mine}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            done += sum(future.result() for future in ready)
            report("measuring", done, total)
        return plan, folder
    except BrokenProcessPool:
        raise HeadatlasError("a process died, perhaps for lack of memory; run again with --jobs 1") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_refused: str | None = None


def _guarded_start(order: Order) -> None:
    """A model that cannot be opened is told in the user's words, not as a process that died."""
    global _refused
    try:
        _start(order)
    except HeadatlasError as error:
        _refused = str(error)


def _describe_or_say() -> tuple[ModelRecord, str, int] | str:
    return _refused or _describe()
