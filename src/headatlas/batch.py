"""Reruns many findings on one model: recorded ones are kept, one failure stops nothing, processes share the work."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from headatlas import load, run
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType
from headatlas.errors import HeadatlasError
from headatlas.evidence import records
from headatlas.evidence.freshness import Present
from headatlas.evidence.outcome import Outcome
from headatlas.lab import OpenModel, open_model, toys
from headatlas.lab.toys import TOY
from headatlas.reporting import Report
from headatlas.script import load_script
from headatlas.workers import start_as_worker


@dataclass(frozen=True)
class Job:
    """One model, the seeds of the stimuli, and where records go."""

    model: str
    revision: str | None
    seeds: tuple[int, ...]
    out: Path


def run_all(
    catalog: Catalog, entries: Sequence[HeadType], job: Job, again: bool, jobs: int, report: Report
) -> Iterator[Outcome]:
    """Rerun findings on a model, each written as soon as it is there.

    Args:
        catalog: that the entries are in.
        entries: with a rule each.
        job: the model, the seeds, the folder of the records.
        again: run also what is recorded there already, of this rule, script, stimuli, weights and seeds.
        jobs: how many processes share the work; each opens the model for itself and uses one thread.
        report: told of progress.

    Yields:
        An outcome per entry, as they come; kept records first.

    Raises:
        HeadatlasError: where the model cannot be opened, or a record cannot be written.
    """
    if job.model == TOY:
        for entry in entries:
            yield _toy(catalog, entry, job, report)
        return
    report(f"opening {job.model}", 0, 0)
    with open_model(job.model, job.revision) as model:
        waiting = list(entries)
        present = Present(catalog)
        for entry in entries if not again else ():
            if kept := _recorded(present, entry, model, job):
                waiting.remove(entry)
                yield kept
        if jobs == 1 or len(waiting) < 2:
            for entry in waiting:
                yield _one(catalog, entry, model, job, report)
            return
    yield from _shared(waiting, job, jobs, report)


def _recorded(present: Present, entry: HeadType, model: OpenModel, job: Job) -> Outcome | None:
    """The record of an earlier run, where all it depends on is as it was; a damaged one is run again."""
    path = records.path_of(job.out, model.id, entry.id)
    try:
        record = records.read(path) if path.is_file() else None
    except HeadatlasError:
        return None
    if record is None or record.model.sha256 != model.sha256 or present.changes(record):
        return None
    if set(record.stability.seeds) != {str(seed) for seed in job.seeds}:
        return None
    return Outcome(entry.id, path, record, kept=True)


def _one(catalog: Catalog, entry: HeadType, model: OpenModel, job: Job, report: Report) -> Outcome:
    try:
        record = run.run(catalog, entry, model, job.seeds, _about(entry, report))
    except HeadatlasError as error:
        return Outcome(entry.id, error=str(error))
    except Exception as error:  # a fault of one script must not cost the others their run
        return Outcome(entry.id, error=f"the script failed ({type(error).__name__}: {error}); please report it")
    return Outcome(entry.id, records.write(record, job.out), record)


def _about(entry: HeadType, report: Report) -> Report:
    return lambda what, done, total: report(f"{entry.id}: {what}", done, total)


def _toy(catalog: Catalog, entry: HeadType, job: Job, report: Report) -> Outcome:
    """On the model that the method trains for itself."""
    script = load_script(entry.id)
    if script.toy is None:
        return Outcome(entry.id, error="its method trains no model of its own; give another --model")
    tell = _about(entry, report)
    with toys.trained(entry.id, script.toy, job.seeds[0], script.sha256, tell) as model:
        return _one(catalog, entry, model, job, report)


# --- over several processes -------------------------------------------------------------------------------------

_at_work: tuple[Catalog, OpenModel, Job] | None = None


def _start(job: Job) -> None:
    global _at_work
    start_as_worker()
    torch.set_num_threads(1)
    _at_work = load(), open_model(job.model, job.revision), job


def _work(id: str) -> Outcome:
    assert _at_work is not None
    catalog, model, job = _at_work
    return _one(catalog, catalog.head(id), model, job, lambda what, done, total: None)


def _shared(entries: Sequence[HeadType], job: Job, jobs: int, report: Report) -> Iterator[Outcome]:
    pool = ProcessPoolExecutor(
        min(jobs, len(entries)), multiprocessing.get_context("spawn"), initializer=_start, initargs=(job,)
    )
    try:
        futures: dict[Future[Outcome], str] = {pool.submit(_work, entry.id): entry.id for entry in entries}
        report(f"{len(entries)} findings", 0, len(entries))
        for done, future in enumerate(as_completed(futures), 1):
            report(f"{len(entries)} findings", done, len(entries))
            yield future.result()
    except BrokenProcessPool:
        raise HeadatlasError("a process died, perhaps for lack of memory; run again with --jobs 1") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
