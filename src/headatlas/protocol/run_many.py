"""Reruns many findings on one model: recorded ones are kept, one failure stops nothing, processes share the work."""

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files
from headatlas.evidence.outcome import Outcome
from headatlas.evidence.record_parts import ModelRecord
from headatlas.lab import OpenModel, open_model
from headatlas.lab.fits import toys
from headatlas.lab.fits.toys import TOY
from headatlas.progress import Notify, Progress, no_notice, no_progress
from headatlas.protocol import run
from headatlas.protocol.code_hash import script_sha256, stimuli_sha256
from headatlas.protocol.freshness import CurrentVersions
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.provenance import catalog_id, model_record
from headatlas.protocol.script import load_script
from headatlas.protocol.workers import opened, pool


@dataclass(frozen=True)
class RunRequest:
    """One model, how it is opened, the seeds of the stimuli, and where records go."""

    model: str
    options: ModelOptions
    seeds: tuple[int, ...]
    out: Path


def run_all(
    catalog: Catalog,
    entries: Sequence[HeadType],
    job: RunRequest,
    again: bool,
    jobs: int,
    report: Progress,
    tell: Notify = no_notice,
) -> Iterator[Outcome]:
    """Rerun findings on a model, each written as soon as it is there.

    Args:
        catalog: that the entries are in.
        entries: with a rule each.
        job: the model, the seeds, the folder of the records.
        again: run also what is recorded there already, of this rule, script, stimuli, model and seeds.
        jobs: how many processes share the work; each opens the model for itself and uses one thread.
        report: told of progress.
        tell: told where the records of another model of the same name are moved.

    Yields:
        An outcome per entry, as they come; kept records first.

    Raises:
        HeadatlasError: where the model cannot be opened, or a record cannot be written.
    """
    if job.model == TOY:
        if job.options != ModelOptions():
            raise HeadatlasError("a toy model is trained by its method; --model toy takes no option of how to open one")
        for entry in entries:
            yield _toy(catalog, entry, job, report)
        return
    report(f"opening {job.model}", 0, 0)
    with open_model(job.model, **job.options.keywords(), progress=report) as model:
        waiting, present = list(entries), CurrentVersions(catalog)
        about = model_record(model, catalog_id(catalog, model))
        if moved := record_files.claim(job.out, about):
            tell(moved)
        for entry in entries if not again else ():
            if kept := _recorded(present, entry, about, job):
                waiting.remove(entry)
                yield kept
        if jobs == 1 or len(waiting) < 2:
            for entry in waiting:
                yield _one(catalog, entry, model, job, report, about)
            return
    yield from _shared(waiting, job, jobs, report)


def _recorded(present: CurrentVersions, entry: HeadType, model: ModelRecord, job: RunRequest) -> Outcome | None:
    """The record of an earlier run, where all it depends on is as it was; a damaged one is run again."""
    path = record_files.home_of(job.out, model) / f"{entry.id}.json"
    try:
        record = record_files.read(path) if path.is_file() else None
    except HeadatlasError:
        return None
    if record is None or present.changes(record, model):
        return None
    if set(record.stability.seeds) != {str(seed) for seed in job.seeds}:
        return None
    return Outcome(entry.id, path, record, kept=True)


def _one(
    catalog: Catalog,
    entry: HeadType,
    model: OpenModel,
    job: RunRequest,
    report: Progress,
    about: ModelRecord | None = None,
) -> Outcome:
    try:
        record = run.run(catalog, entry, model, job.seeds, _about(entry, report), about)
    except HeadatlasError as error:
        return Outcome(entry.id, error=str(error))
    except Exception as error:  # a fault of one script must not cost the others their run
        return Outcome(entry.id, error=f"the script failed ({type(error).__name__}: {error}); please report it")
    return Outcome(entry.id, record_files.write(record, job.out), record)


def _about(entry: HeadType, report: Progress) -> Progress:
    return lambda what, done, total: report(f"{entry.id}: {what}", done, total)


def _toy(catalog: Catalog, entry: HeadType, job: RunRequest, report: Progress) -> Outcome:
    """On the model that the method trains for itself."""
    script = load_script(entry.id)
    if script.toy is None:
        return Outcome(entry.id, error="its method trains no model of its own; give another --model")
    tell = _about(entry, report)
    version = f"{script_sha256(script.path)} {stimuli_sha256(script.path)}"
    with toys.trained(entry.id, script.toy, job.seeds[0], version, tell) as model:
        return _one(catalog, entry, model, job, report)


# --- over several processes -------------------------------------------------------------------------------------


def _work(id: str, job: RunRequest) -> Outcome:
    catalog, model = opened()
    return _one(catalog, catalog.head(id), model, job, no_progress, _about_model())


@cache
def _about_model() -> ModelRecord:
    catalog, model = opened()
    return model_record(model, catalog_id(catalog, model))


def _shared(entries: Sequence[HeadType], job: RunRequest, jobs: int, report: Progress) -> Iterator[Outcome]:
    with pool(min(jobs, len(entries)), job.model, job.options) as workers:
        futures = [workers.submit(_work, entry.id, job) for entry in entries]
        report(f"{len(entries)} findings", 0, len(entries))
        for done, future in enumerate(as_completed(futures), 1):
            report(f"{len(entries)} findings", done, len(entries))
            yield future.result()
