"""Measures head types on an open model; keeps what is measured already, and saves each type when it is done."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headatlas.catalog.catalog import Catalog
from headatlas.census import cache, measuring
from headatlas.census.cache import Plan, TypePart
from headatlas.census.job import Job, start
from headatlas.census.schema import CensusSettings
from headatlas.lab import OpenModel
from headatlas.progress import Progress, Step, Task, no_progress
from headatlas.protocol import costs
from headatlas.protocol.provenance import catalog_id, model_record
from headatlas.protocol.script import load_script


def plan_of(catalog: Catalog, model: OpenModel, settings: CensusSettings) -> Plan:
    """What all shards of a census of this model share."""
    return Plan(model=model_record(model, catalog_id(catalog, model)), settings=settings)


def units(settings: CensusSettings, shard: tuple[int, int] = (1, 1)) -> list[list[str]]:
    """The types that are measured together: all that go by attention between pairs, and every other by itself.

    A shard gets every n-th of them, so that no run of the model is made in two shards.
    """
    pairs = [id for id in settings.types if load_script(id).detect is None]
    every = [pairs] * bool(pairs) + [[id] for id in settings.types if id not in pairs]
    return every[shard[0] - 1 :: shard[1]]


def tasks(
    catalog: Catalog, model: OpenModel, plan: Plan, folder: Path, together: Sequence[Sequence[str]]
) -> list[Task]:
    """The expected work of types that are measured together; none for what is in the folder and has not changed.

    Args:
        catalog, plan, folder: of the census.
        model: that is open.
        together: ids, as `units` gives them.
    """
    settings, amount = plan.settings, measuring.amount_of(plan.settings)
    found = []
    for ids in together:
        key = {id: start(catalog, id, plan.model, settings).key for id in ids}
        waiting = [id for id in ids if cache.load_cached(folder, id, key[id]) is None]
        each = costs.tasks(catalog, waiting, model, amount)
        name = ids[0] if len(ids) == 1 else f"{len(ids)} types by attention"
        found.append(Task(name, _in_turn([task.steps for task in each]), len(ids)))
    return found


def _in_turn(steps: Sequence[tuple[Step, ...]]) -> tuple[Step, ...]:
    """The steps of types that are measured together: the first steps of all, then the second, and so on."""
    found: dict[str, Step] = {}
    for each in (step for steps_of_one in steps for step in steps_of_one):
        before = found.get(each.what)
        found[each.what] = replace(each, weight=each.weight + (before.weight if before else 0.0))
    return tuple(found.values())


def measure_types(
    catalog: Catalog,
    model: OpenModel,
    plan: Plan,
    folder: Path | None = None,
    ids: Sequence[str] | None = None,
    report: Progress = no_progress,
) -> Iterator[TypePart]:
    """Measure types on a model that is open.

    Args:
        catalog: that they are in.
        model: to measure.
        plan: of the census.
        folder: where parts are kept; what is there already and has not changed is not measured again. Parts of another
            model go to parts-<hash> beside them.
        ids: of the types; by default all of the plan.
        report: told of progress.

    Yields:
        A part per type, written before it is yielded.
    """
    chosen = plan.settings.types if ids is None else ids
    if folder:
        folder = cache.own(folder, plan.model)
        cache.claim_parts(folder, plan.model)
    waiting: list[Job] = []
    for id in chosen:
        job = start(catalog, id, plan.model, plan.settings)
        known = cache.load_cached(folder, id, job.key) if folder else None
        if known:
            yield known
        else:
            waiting.append(job)
    pairs = [job for job in waiting if job.script.detect is None]
    for part in measuring.measure(pairs, model, report):
        yield _written(part, folder)
    for job in waiting:
        if job.script.detect is not None:
            for part in measuring.measure([job], model, report):
                yield _written(part, folder)


def _written(part: TypePart, folder: Path | None) -> TypePart:
    if folder:
        cache.write(part, folder)
    return part
