"""What a run of many findings finds recorded already: what is done, and records of some of the seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files
from headatlas.evidence.outcome import Outcome
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Record
from headatlas.progress import Notify, Task, seed_name
from headatlas.protocol.freshness import CurrentVersions
from headatlas.protocol.model_options import ModelOptions

if TYPE_CHECKING:
    from headatlas.protocol.budget import Budget


@dataclass(frozen=True)
class RunRequest:
    """One model, how it is opened, the seeds of the stimuli, where records go, and how much is asked."""

    model: str
    options: ModelOptions
    seeds: tuple[int, ...]
    out: Path
    budget: Budget = "full"


@dataclass(frozen=True)
class Recorded:
    """What is recorded already: what need not be made again, and records of some of the seeds; both by entry."""

    kept: dict[str, Outcome]
    begun: dict[str, Record]

    def left(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that are not done, without the steps of seeds that are."""
        found = []
        for task in (task for task in tasks if task.id not in self.kept):
            done = tuple(seed_name(int(seed), "") for seed in self.seeds_of(task.id))
            found.append(replace(task, steps=tuple(step for step in task.steps if not step.what.startswith(done))))
        return found

    def seeds_of(self, id: str) -> Collection[str]:
        """The seeds that are recorded of an entry that is not done."""
        return self.begun[id].stability.seeds if id in self.begun else ()


def recorded(
    catalog: Catalog, entries: Sequence[HeadType], job: RunRequest, again: bool, about: ModelRecord, tell: Notify
) -> Recorded:
    """What is recorded already; the folder is given to this model."""
    if moved := record_files.claim(job.out, about):
        tell(moved)
    present, found, wanted = CurrentVersions(catalog), Recorded({}, {}), [str(seed) for seed in job.seeds]
    for entry in entries:
        path = record_files.home_of(job.out, about) / f"{entry.id}.json"
        record = _current(present, path, about, job)
        if record is None or (again and record.budget == job.budget):
            continue
        seeds = record.stability.seeds.keys()
        if seeds == set(wanted):
            found.kept[entry.id] = Outcome(entry.id, path, record, kept=True)
        elif seeds < set(wanted) and str(record.environment.seed) == wanted[0] and record.budget == job.budget:
            found.begun[entry.id] = record
    return found


def _current(present: CurrentVersions, path: Path, model: ModelRecord, job: RunRequest) -> Record | None:
    """The record of an earlier run, where all it depends on is as it was; None for a damaged one."""
    try:
        record = record_files.read(path) if path.is_file() else None
    except HeadatlasError:
        return None
    if record is None or present.changes(record, model) or (record.budget == "quick" and job.budget == "full"):
        return None
    return record
