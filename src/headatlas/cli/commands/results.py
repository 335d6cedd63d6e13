"""The commands that show records: verdicts in the terminal, or in one HTML file."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.cli.commands.adding import Commands


def add_to(commands: Commands) -> None:
    """The commands, with their options."""
    parser = add(commands, "results", results, "show the recorded verdicts: head types x models", "headatlas results")
    parser.add_argument("--model", action="append", metavar="ID", help="only this model; may be repeated")
    parser.add_argument(
        "--by", choices=("stage", "holds", "name"), default="stage", help="order of the head types (default stage)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of records (default the records that ship)")

    parser = add(
        commands, "report", report, "write the recorded verdicts to one HTML file", "headatlas report results.html"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write")
    parser.add_argument("--model", action="append", metavar="ID", help="only this model; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of records (default the records that ship)")


def results(options: argparse.Namespace) -> int:
    """Print the recorded verdicts."""
    from headatlas import load, locations
    from headatlas.cli.terminal import results_view
    from headatlas.protocol import results

    catalog, folder = load(), options.out or locations.records()
    found, damaged = results.collect(catalog, folder, _asked_for(catalog, folder, options))
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if options.json:
        print_json([result.as_dict() for result in found])
    else:
        results_view.print_results(catalog, found, folder, options.by)
    return EXIT_MISTAKE if damaged else 0


def _asked_for(catalog: Catalog, folder: Path, options: argparse.Namespace) -> list[str] | None:
    """The folders of the models asked for; None for all.

    Raises:
        HeadatlasError: if there is no record of one of them.
    """
    from headatlas.evidence import record_files
    from headatlas.protocol import results

    if not options.model:
        return None
    found = {model: results.folders_of(catalog, folder, model) for model in options.model}
    if missing := [model for model, folders in found.items() if not folders]:
        others = Counter(path.parent.name for path in record_files.paths_in(folder))
        has = f"it has {others.total()}, of {', '.join(others)}" if others else "it has none"
        out = f" --out {folder}" if options.out else ""
        raise HeadatlasError(
            f"no record of {missing[0]} in {folder} ({has}); "
            f"`headatlas run --all --model {missing[0]}{out}` writes some"
        )
    return [each for folders in found.values() for each in folders]


def report(options: argparse.Namespace) -> int:
    """Write the recorded verdicts to one HTML file."""
    from headatlas import load, locations
    from headatlas.evidence import files
    from headatlas.pages.report import report
    from headatlas.protocol import results

    catalog, folder = load(), options.out or locations.records()
    found, damaged = results.collect(catalog, folder, _asked_for(catalog, folder, options))
    for line in damaged:
        print(f"headatlas: {line}", file=sys.stderr)
    if not found:
        raise HeadatlasError(f"no records in {folder}; `headatlas run --all --out {folder}` writes them")
    files.write(options.file, report(catalog, found), folders=False)
    print(f"wrote {options.file} with {len(found)} records: {options.file.resolve().as_uri()}")
    return EXIT_MISTAKE if damaged else 0
