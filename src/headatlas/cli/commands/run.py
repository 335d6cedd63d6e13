"""The commands that rerun findings, measure edges between heads, and show records."""

import argparse
import json
import sys

from headatlas.cli.commands import EXIT_FAILED, EXIT_MISTAKE
from headatlas.cli.commands.opening import model_options
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError


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
    from headatlas.cli.terminal.progress import Progress
    from headatlas.evidence import records

    records.require_writable(options.out)
    with Progress("running") as progress:
        from headatlas.protocol import batch

        seeds = tuple(range(options.seed, options.seed + options.seeds))
        job = batch.Job(options.model, model_options(options), seeds, options.out)
        outcomes, again = {}, options.again or not options.all
        for outcome in batch.run_all(catalog, entries, job, again, options.jobs, progress, progress.tell):
            outcomes[outcome.entry] = outcome
            with progress.paused():
                if outcome.record is None:
                    print(f"headatlas: {outcome.entry}: {outcome.error}", file=sys.stderr)
                elif options.json:
                    print(json.dumps(outcome.record.model_dump(mode="json")), flush=True)
                elif outcome.path and not outcome.kept:
                    record_view.print_record(catalog, catalog.head(outcome.entry), outcome.record, outcome.path)
    done = [outcomes[entry.id] for entry in entries]
    if len(entries) > 1 and not options.json:
        record_view.print_verdicts(catalog, done)
    if any(outcome.record is None for outcome in done):
        return EXIT_MISTAKE
    return EXIT_FAILED if any(o.record and o.record.verdict.label == "not-reproduced" for o in done) else 0


def collaborate(options: argparse.Namespace) -> int:
    """Measure the edges between the heads found in a model, and write the record."""
    from headatlas import load, locations
    from headatlas.cli.commands import DEFAULT_OUT
    from headatlas.cli.terminal.progress import Progress
    from headatlas.evidence import records

    catalog = load()
    records.require_writable(options.out)
    with Progress("collaboration") as progress:
        from headatlas.collaboration import measuring, schema
        from headatlas.lab import open_model

        progress(f"opening {options.model}", 0, 0)
        with open_model(options.model, **model_options(options).keywords()) as model:
            settings = measuring.STANDARD.model_copy(update={"seed": options.seed})
            own = records.home_of(DEFAULT_OUT, measuring.about(catalog, model)).is_dir()
            folder = options.records or (DEFAULT_OUT if own else locations.records())
            found = measuring.collaborate(catalog, model, folder, settings, progress)
    path = schema.write(found, options.out)
    if options.json:
        print_json(found.model_dump(mode="json"))
    else:
        from headatlas.cli.terminal import collaboration_view

        collaboration_view.print_collaboration(catalog, found, path)
    return 0


def results(options: argparse.Namespace) -> int:
    """Print the recorded verdicts."""
    from headatlas import load, locations
    from headatlas.cli.terminal import results_view
    from headatlas.protocol import results

    catalog = load()
    found, damaged = results.collect(catalog, options.out or locations.records(), options.model)
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if options.json:
        print_json([result.as_dict() for result in found])
    else:
        results_view.print_results(catalog, found, options.out or locations.records())
    return EXIT_MISTAKE if damaged else 0


def report(options: argparse.Namespace) -> int:
    """Write the recorded verdicts to one HTML file."""
    from headatlas import load, locations
    from headatlas.evidence import files
    from headatlas.pages.report import report
    from headatlas.protocol import results

    catalog, folder = load(), options.out or locations.records()
    found, damaged = results.collect(catalog, folder, options.model)
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if not found:
        raise HeadatlasError(f"no records in {folder}; `headatlas run --all --out {folder}` writes them")
    files.write(options.file, report(catalog, found), folders=False)
    print(f"wrote {options.file} with {len(found)} records")
    return EXIT_MISTAKE if damaged else 0
