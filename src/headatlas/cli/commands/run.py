"""The commands that rerun findings, and measure edges between heads."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_FAILED, EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.fetching import fetched_first
from headatlas.cli.commands.opening import add_model_options, model_options
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError
from headatlas.locations import DEFAULT_COLLABORATION, DEFAULT_OUT

if TYPE_CHECKING:
    from headatlas.cli.commands.adding import Commands
    from headatlas.evidence.outcome import Outcome


def add_to(commands: Commands) -> None:
    """The commands, with their options."""
    _add_run(commands)
    _add_collaborate(commands)


def _add_run(commands: Commands) -> None:
    parser = add(
        commands,
        "run",
        run,
        "rerun findings on a model",
        "headatlas run induction --model gpt2",
        json="print the records as JSON lines instead of tables",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of head types")
    parser.add_argument("--all", action="store_true", help="every head type that has a reproduction")
    parser.add_argument(
        "--model", default="specimen", help="'specimen' (default), a folder, a GGUF file, a hub id, or 'toy'"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the stimuli (default 0)")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds to run, from --seed on (default 1)")
    parser.add_argument(
        "--budget",
        choices=("quick", "full"),
        default="full",
        help="number of prompts and random sets; full: as the rules of the entries say (default full)",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="number of processes, which share one copy of the weights (default 1)"
    )
    parser.add_argument("--again", action="store_true", help="with --all, also rerun findings whose record is current")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the records (default {DEFAULT_OUT})")
    add_model_options(parser)


def _add_collaborate(commands: Commands) -> None:
    parser = add(
        commands,
        "collaborate",
        collaborate,
        "measure how the heads found in a model work together",
        "headatlas collaborate specimen",
        json="print the record as JSON instead of tables",
    )
    parser.add_argument("model", metavar="MODEL", help="'specimen', a model folder, a GGUF file, or a hub id")
    parser.add_argument("--seed", type=int, default=0, help="seed of prompts and random sets (default 0)")
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help=f"folder of records of this model (default {DEFAULT_OUT} if it has them, else the records that ship)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_COLLABORATION,
        metavar="FOLDER",
        help=f"folder for the record (default {DEFAULT_COLLABORATION})",
    )
    add_model_options(parser)


def run(options: argparse.Namespace) -> int:
    """Rerun findings on a model and write their records."""
    from headatlas import load

    catalog = load()
    if bool(options.ids) == options.all:
        raise HeadatlasError("give the ids to run, or --all; `headatlas list` shows the ids")
    if options.jobs < 1 or options.seeds < 1:
        raise HeadatlasError("--jobs and --seeds must be at least 1")
    entries = [catalog.head(id) for id in dict.fromkeys(options.ids)]
    if options.all:
        entries = [entry for entry in catalog.heads.values() if entry.rule]
    if missing := [entry.id for entry in entries if entry.rule is None]:
        raise HeadatlasError(f"no reproduction yet for {', '.join(missing)}; `headatlas show` says what a rerun needs")
    from headatlas.cli.terminal import record_view
    from headatlas.cli.terminal.progress import ProgressBar
    from headatlas.evidence import record_files

    record_files.require_writable(options.out)
    outcomes: dict[str, Outcome] = {}
    started = time.time()
    try:
        with ProgressBar("running") as progress:
            fetched_first(options.model, options.revision, progress)
            from headatlas.protocol import run_many

            seeds = tuple(range(options.seed, options.seed + options.seeds))
            job = run_many.RunRequest(options.model, model_options(options), seeds, options.out, options.budget)
            again = options.again or not options.all
            for outcome in run_many.run_all(catalog, entries, job, again, options.jobs, progress, progress.tell):
                outcomes[outcome.entry] = outcome
                with progress.paused():
                    if outcome.record is None:
                        print(f"headatlas: {outcome.entry}: {outcome.error}", file=sys.stderr)
                    elif options.json:
                        print(json.dumps(outcome.record.model_dump(mode="json")), flush=True)
                    elif outcome.path and not (outcome.kept and options.all):
                        record_view.print_record(catalog, catalog.head(outcome.entry), outcome.record, outcome.path)
    except KeyboardInterrupt:
        raise HeadatlasError(_interrupted(options, outcomes, [entry.id for entry in entries], started)) from None
    done = [outcomes[entry.id] for entry in entries]
    if len(entries) > 1 and not options.json:
        record_view.print_verdicts(catalog, done)
    if any(outcome.record is None for outcome in done):
        return EXIT_MISTAKE
    return EXIT_FAILED if any(o.record and o.record.verdict.label == "not-reproduced" for o in done) else 0


def _interrupted(
    options: argparse.Namespace, outcomes: Mapping[str, Outcome], ids: Sequence[str], started: float
) -> str:
    """What is written after Ctrl-C, by this process or by workers that it has not heard of since; and how to go on."""
    found = {outcome.path for outcome in outcomes.values() if outcome.path}
    for path in (path for id in ids for path in options.out.glob(f"*/{id}.json")):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= started:
                found.add(path)
    if not found:
        return "interrupted; no record is written yet"
    verb = "is" if len(found) == 1 else "are"
    more = "; the same command goes on" if options.all and not options.again else ""
    return f"interrupted; {len(found)} of {len(ids)} records {verb} written, in {found.pop().parent}{more}"


def collaborate(options: argparse.Namespace) -> int:
    """Measure the edges between the heads found in a model, and write the record."""
    from headatlas import load, locations
    from headatlas.cli.terminal.progress import ProgressBar
    from headatlas.evidence import record_files
    from headatlas.locations import DEFAULT_OUT

    catalog = load()
    record_files.require_writable(options.out)
    with ProgressBar("collaboration") as progress:
        fetched_first(options.model, options.revision, progress)
        from headatlas.collaboration import measuring, schema
        from headatlas.lab import open_model

        progress(f"opening {options.model}", 0, 0)
        with open_model(options.model, **model_options(options).keywords(), progress=progress) as model:
            settings = measuring.STANDARD.model_copy(update={"seed": options.seed})
            own = record_files.home_of(DEFAULT_OUT, measuring.about(catalog, model)).is_dir()
            folder = options.records or (DEFAULT_OUT if own else locations.records())
            found = measuring.collaborate(catalog, model, folder, settings, progress)
    path = schema.write(found, options.out)
    if options.json:
        print_json(found.model_dump(mode="json"))
    else:
        from headatlas.cli.terminal import collaboration_view

        collaboration_view.print_collaboration(catalog, found, path)
    return 0
