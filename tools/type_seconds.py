"""Times the detector of every head type on a model: a table of seconds and of work, before and after a change.

Work is counted in tokens that pass all layers: a token that passes half of them counts half. A detector that runs each
of its prompts once, and nothing else, has a ratio of 1. Detectors are timed on a few prompts of each family, in one
thread, and stopped at a limit; a rule asks for more prompts, twice, so a run takes longer.

    python tools/type_seconds.py time MODEL FILE [TYPE …] [--prompts 2] [--limit 150]     writes FILE after every type
    python tools/type_seconds.py table BEFORE AFTER [--records FOLDER]                    prints a table in markdown

An older version is timed by the same program: set PYTHONPATH to its `src`. The table can add the seconds of full runs,
from a folder of records of one model. Nothing else should run on the machine.
"""

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import headatlas
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, open_model
from headatlas.lab.running.passes import count_passes
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_behaviour, measure_scores
from headatlas.protocol.script import load_script


@dataclass
class Timed:
    """What one detector took.

    Attributes:
        prompts, tokens: read by the detector: their number, and their length together.
        planned: prompts that a run reads, for selection and test together.
        behaviour: seconds for the behaviour on as many prompts.
        seconds: of the detector; None if it was stopped at the limit.
        work: tokens that passed all layers.
        why: why it could not be timed.
    """

    prompts: int = 0
    tokens: int = 0
    planned: int = 0
    behaviour: float = 0.0
    seconds: float | None = None
    work: float = 0.0
    why: str = ""


class _LimitReached(BaseException):
    """Not an Exception, so that no fallback in the lab takes it for a failure of a model."""


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Stop the work within when this time is over."""

    def stop(*_: object) -> None:
        raise _LimitReached

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def timed(id: str, model: OpenModel, prompts: int, limit: int) -> Timed:
    """Time the detector of one type, on `prompts` prompts of each family."""
    rule = headatlas.load().heads[id].rule
    assert rule
    script, found = load_script(id), Timed()
    torch.manual_seed(0)
    try:
        with at_most(limit):
            stimuli = draw(script, rule, model, 0, prompts)
            found.prompts, found.tokens = len(stimuli.find.prompts), sum(len(p.tokens) for p in stimuli.find.prompts)
            found.planned = (rule.find + rule.test) * len(script.families)
            clock = time.perf_counter()
            measure_behaviour(script, model, stimuli.task)
            found.behaviour = time.perf_counter() - clock
            with count_passes(model) as count:
                clock = time.perf_counter()
                measure_scores(script, model, stimuli.find)
                found.seconds, found.work = time.perf_counter() - clock, count.tokens
    except _LimitReached:
        found.why = f"stopped after {limit} s"
    except HeadatlasError as error:
        found.why = str(error)
    return found


def time_all(options: argparse.Namespace) -> None:
    """Time types, and write what is known after each."""
    torch.set_num_threads(1)
    catalog, model = headatlas.load(), open_model(options.model)
    rows: dict[str, Timed] = {}
    ids = options.types or [id for id, entry in catalog.heads.items() if entry.rule]
    for id in ids:
        rows[id] = timed(catalog.head(id).id, model, options.prompts, options.limit)
        print(f"{id}: {say(rows[id])}, work {ratio(rows[id])}", file=sys.stderr, flush=True)
        options.file.write_text(json.dumps({id: asdict(row) for id, row in rows.items()}, indent=1) + "\n")


def say(row: Timed) -> str:
    """Seconds of a detector, for a table."""
    if row.seconds is None:
        return row.why.replace("stopped after", ">") if row.why.startswith("stopped") else "-"
    return f"{row.seconds:.1f} s"


def ratio(row: Timed) -> str:
    """Work of a detector, as a multiple of its prompts."""
    return f"{row.work / row.tokens:.1f}" if row.seconds is not None and row.tokens else "-"


def table(options: argparse.Namespace) -> None:
    """Print both measurements side by side, the slowest before first."""
    before, after = (
        {id: Timed(**row) for id, row in json.loads(file.read_text()).items()}
        for file in (options.before, options.after)
    )
    runs = {}
    for file in sorted(options.records.glob("*.json")) if options.records else ():
        runs[file.stem] = json.loads(file.read_text())["environment"]["seconds"]
    print("| head type | before | after | work before | work after |" + (" full run |" if runs else ""))
    print("|---|---|---|---|---|" + ("---|" if runs else ""))
    slowest = sorted(after, key=lambda id: -(before[id].seconds or 1e9 * bool(before[id].why[:7] == "stopped")))
    for id in slowest:
        one, two = before[id], after[id]
        row = f"| {id} | {say(one)} | {say(two)} | {ratio(one)} | {ratio(two)} |"
        print(row + (f" {runs[id]:.0f} s |" if id in runs else " - |" if runs else ""))
    if runs:
        print(f"\n{len(runs)} full runs took {sum(runs.values()) / 60:.0f} minutes of processes with one thread.")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    timing = commands.add_parser("time")
    timing.add_argument("model")
    timing.add_argument("file", type=Path)
    timing.add_argument("types", nargs="*")
    timing.add_argument("--prompts", type=int, default=2, help="of each family (default 2)")
    timing.add_argument("--limit", type=int, default=150, help="seconds for one type (default 150)")
    timing.set_defaults(run=time_all)
    comparing = commands.add_parser("table")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--records", type=Path, help="folder with the records of one model")
    comparing.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
