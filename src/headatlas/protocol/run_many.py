"""Reruns many findings on one model: recorded ones are kept, one failure stops nothing, processes share the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType
from headatlas.errors import HeadatlasError
from headatlas.evidence import homes, record_files
from headatlas.evidence.outcome import Outcome
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Record
from headatlas.progress import Notify, RunProgress, Task, no_notice
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.recorded import RunRequest as RunRequest
from headatlas.protocol.recorded import recorded
from headatlas.protocol.script_faults import failed
from headatlas.protocol.shared_model import ModelRequest, SharedModel, open_first, opened
from headatlas.protocol.workers import give_memory_back, pool, use_all_threads, worker_progress

if TYPE_CHECKING:
    from headatlas.lab import OpenModel


def run_all(
    catalog: Catalog,
    entries: Sequence[HeadType],
    job: RunRequest,
    again: bool,
    jobs: int,
    report: RunProgress,
    tell: Notify = no_notice,
) -> Iterator[Outcome]:
    """Rerun findings on a model, each written as soon as it is there.

    Args:
        catalog: that the entries are in.
        entries: with a rule each.
        job: the model, the seeds, the folder of the records.
        again: run also what is recorded there already, of this rule, script, stimuli, model, seeds and budget. A full
            record counts as current for a quick run, and a quick run never replaces one. Where only some of the seeds
            are recorded, the others are run and added.
        jobs: how many processes share the work and the weights, with one thread each; one process uses all threads.
        report: told of progress.
        tell: told where the records of another model of the same name are moved.

    Yields:
        An outcome per entry, as they come; kept records first.

    Raises:
        HeadatlasError: where the model cannot be opened, or a record cannot be written.
    """
    if job.model == homes.TOY:
        yield from _toys(catalog, entries, job, report)
    elif jobs == 1 or len(entries) < 2:
        yield from _alone(catalog, entries, job, again, report, tell)
    else:
        yield from _shared(catalog, entries, job, again, jobs, report, tell)


def _alone(
    catalog: Catalog, entries: Sequence[HeadType], job: RunRequest, again: bool, report: RunProgress, tell: Notify
) -> Iterator[Outcome]:
    """In this process."""
    from headatlas.lab import open_model

    report(f"opening {job.model}", 0, 0)
    with open_model(job.model, **job.options.keywords(), progress=report) as model:
        about, tasks = _looked(catalog, [entry.id for entry in entries], model, job)
        known = recorded(catalog, entries, job, again, about, tell)
        yield from known.kept.values()
        report.plan(known.left(tasks), before=len(known.kept))
        for entry in entries:
            if entry.id not in known.kept:
                yield _one(catalog, entry, model, job, report, about, known.begun.get(entry.id))


def _looked(catalog: Catalog, ids: Sequence[str], model: OpenModel, job: RunRequest) -> tuple[ModelRecord, list[Task]]:
    """What records say of a model, and the expected work of findings on it."""
    from headatlas.protocol import costs
    from headatlas.protocol.budget import amount_of, parameters
    from headatlas.protocol.provenance import catalog_id, model_record

    amount = amount_of(job.budget, parameters(model))
    return model_record(model, catalog_id(catalog, model)), costs.tasks(catalog, ids, model, amount, job.seeds)


def _one(
    catalog: Catalog,
    entry: HeadType,
    model: OpenModel,
    job: RunRequest,
    report: RunProgress,
    about: ModelRecord | None = None,
    before: Record | None = None,
) -> Outcome:
    from headatlas.protocol import run

    report.step(entry.id, "drawing prompts", 0, 0)
    try:
        record = run.run(catalog, entry, model, job.seeds, report.of(entry.id), about, job.budget, before)
    except HeadatlasError as error:
        return Outcome(entry.id, error=str(error))
    except Exception as error:  # a fault of one script must not cost the others their run
        return Outcome(entry.id, error=failed(error, locations.reproductions() / f"{entry.id}.py"))
    finally:
        report.end(entry.id)
    return Outcome(entry.id, record_files.write(record, job.out), record)


def _toys(catalog: Catalog, entries: Sequence[HeadType], job: RunRequest, report: RunProgress) -> Iterator[Outcome]:
    """Each on the model that its method trains for itself."""
    from headatlas.lab.fits import toys
    from headatlas.protocol.code_hash import script_sha256, stimuli_sha256
    from headatlas.protocol.script import load_script

    if job.options != ModelOptions():
        raise HeadatlasError("a toy model is trained by its method; --model toy takes no option of how to open one")
    for entry in entries:
        script = load_script(entry.id)
        if script.toy is None:
            yield Outcome(entry.id, error="its method trains no model of its own; give another --model")
            continue
        version = f"{script_sha256(script.path)} {stimuli_sha256(script.path)}"
        with toys.trained(entry.id, script.toy, job.seeds[0], version, report.of(entry.id)) as model:
            yield _one(catalog, entry, model, job, report)


# --- over several processes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Begun:
    """What the first worker says of the model, and the expected work of each finding."""

    model: SharedModel
    about: ModelRecord
    tasks: list[Task]


def _begin(request: ModelRequest, ids: Sequence[str], job: RunRequest) -> _Begun:
    shared = open_first(request)
    catalog, model = opened(shared)
    return _Begun(shared, *_looked(catalog, ids, model, job))


def _work(
    shared: SharedModel, id: str, job: RunRequest, about: ModelRecord, before: Record | None, alone: bool
) -> Outcome:
    if alone:
        use_all_threads()
    catalog, model = opened(shared)
    try:
        return _one(catalog, catalog.head(id), model, job, worker_progress(), about, before)
    finally:
        give_memory_back()


def _shared(
    catalog: Catalog,
    entries: Sequence[HeadType],
    job: RunRequest,
    again: bool,
    jobs: int,
    report: RunProgress,
    tell: Notify,
) -> Iterator[Outcome]:
    """In worker processes, the largest findings first, so that none of them is left for the end."""
    report(f"opening {job.model}", 0, 0)
    with pool(min(jobs, len(entries)), job.model, job.options, report) as workers:
        begun = workers.executor.submit(_begin, workers.request, [entry.id for entry in entries], job).result()
        known = recorded(catalog, entries, job, again, begun.about, tell)
        yield from known.kept.values()
        tasks = sorted(known.left(begun.tasks), key=lambda task: -task.weight)
        report.plan(tasks, min(jobs, max(len(tasks), 1)), before=len(known.kept))
        futures = [
            workers.executor.submit(
                _work, begun.model, task.id, job, begun.about, known.begun.get(task.id), len(tasks) == 1
            )
            for task in tasks
        ]
        for future in as_completed(futures):
            outcome = future.result()
            report.end(outcome.entry)
            yield outcome
