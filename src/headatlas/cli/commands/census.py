"""The commands that take a census of all heads of a model."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.fetching import fetched_first
from headatlas.cli.commands.opening import add_model_options, model_options
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError
from headatlas.locations import DEFAULT_CENSUS

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.census.parallel import CensusRequest
    from headatlas.census.schema import Census
    from headatlas.cli.commands.adding import Commands
    from headatlas.cli.terminal.progress import ProgressBar


def add_to(commands: Commands) -> None:
    """The commands of the census, with their options."""
    parser = add(
        commands,
        "census",
        census,
        "name every head of a model",
        "headatlas census gpt2",
        json="print the census, or with --dry-run the plan, as JSON",
    )
    parser.add_argument("model", metavar="MODEL", help="'specimen', a model folder, a GGUF file, or a hub id")
    parser.add_argument("--dry-run", action="store_true", help="print only an estimate: prompts, work, time, memory")
    parser.add_argument(
        "--budget",
        choices=("quick", "full"),
        default="quick",
        help="number of prompts; full: as the rules of the entries say (default quick)",
    )
    parser.add_argument("--prompts", type=int, metavar="N", help="prompts per family, instead of the budget's number")
    parser.add_argument("--types", metavar="ID,ID", help="only these head types")
    parser.add_argument("--no-cause", dest="cause", action="store_false", help="do not intervene on the heads found")
    parser.add_argument("--seed", type=int, default=0, help="seed of the stimuli (default 0)")
    parser.add_argument(
        "--shard", default="1/1", metavar="I/N", help="only this share of the work; `merge` joins shares"
    )
    parser.add_argument("--jobs", type=int, help="number of processes (default one per core, if memory is ample)")
    parser.add_argument("--out", type=Path, default=DEFAULT_CENSUS, help=f"folder to write (default {DEFAULT_CENSUS})")
    parser.add_argument("--pages", metavar="URL", help="URL of the catalog's pages, to link types to them")
    add_model_options(parser)

    parser = add(
        commands,
        "merge",
        merge,
        "join the shards of a census",
        "headatlas merge shard-1 shard-2",
        json="print the census as JSON",
    )
    parser.add_argument("shards", nargs="+", type=Path, metavar="FOLDER", help="the --out folder of each shard")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the census (default the first folder)")
    parser.add_argument("--pages", metavar="URL", help="URL of the catalog's pages, to link types to them")


def census(options: argparse.Namespace) -> int:
    """Name every head of a model."""
    from headatlas import load

    catalog, shard = load(), _shard(options.shard)
    if options.jobs is not None and options.jobs < 1:
        raise HeadatlasError("--jobs must be at least 1")
    from headatlas.cli.terminal.progress import ProgressBar

    with ProgressBar("census") as progress:
        fetched_first(options.model, options.revision, progress)
        progress("starting up", 0, 0)
        from headatlas.census import parallel
        from headatlas.evidence import record_files

        order = parallel.CensusRequest(
            options.model,
            model_options(options),
            options.budget,
            options.prompts,
            tuple(options.types.split(",")) if options.types else None,
            options.cause,
            options.seed,
            shard,
        )
        if options.dry_run:
            from headatlas.census import planning

            costs = planning.plan(catalog, order, options.jobs, progress)
        else:
            record_files.require_writable(options.out)
            folder = _taken(catalog, order, options, progress)
    if options.dry_run:
        if options.json:
            print_json(asdict(costs))
        else:
            from headatlas.cli.terminal import census_view

            census_view.print_plan(costs)
        return 0
    if shard[1] > 1:
        print(
            f"shard {shard[0]} of {shard[1]} is in {folder}; when all shards are done: headatlas merge FOLDER …",
            file=sys.stderr,
        )
        return 0
    return _join(catalog, [folder], folder, options)


def _taken(catalog: Catalog, order: CensusRequest, options: argparse.Namespace, progress: ProgressBar) -> Path:
    """Take the census; after Ctrl-C say where the types measured so far are."""
    from headatlas.census import parallel

    try:
        return parallel.run_census(catalog, order, options.out, options.jobs, progress, progress.tell)[1]
    except KeyboardInterrupt:
        raise HeadatlasError(
            f"interrupted; the types measured so far are in {options.out}, and the same command goes on"
        ) from None


def merge(options: argparse.Namespace) -> int:
    """Join the shards of one census."""
    from headatlas import load

    folders = [_census_folder(folder) for folder in options.shards]
    return _join(load(), folders, options.out or folders[0], options)


def _join(catalog: Catalog, folders: list[Path], out: Path, options: argparse.Namespace) -> int:
    from headatlas.census import labelling, page

    found, _ = labelling.collect(catalog, folders)
    _require_own(out, found)
    written = page.write_all(catalog, found, out, options.pages)
    if options.json:
        print_json(found.model_dump(mode="json"))
    else:
        from headatlas.cli.terminal import census_view

        census_view.print_census(catalog, found, written)
    failed = [each for each in found.types if each.status == "failed"]
    for each in failed:
        print(f"headatlas: {each.id}: {each.reason}", file=sys.stderr)
    return EXIT_MISTAKE if failed else 0


def _require_own(folder: Path, census: Census) -> None:
    """Raise HeadatlasError if the folder for a census holds the census of another model."""
    from headatlas.census import reading

    place = folder / "census.json"
    try:
        before = reading.read(place).model if place.is_file() else census.model
    except HeadatlasError:
        return
    if apart := [part for part in before.differs(census.model) if part != "identity"]:
        raise HeadatlasError(
            f"{place} belongs to another model (different {', '.join(apart)}); give another folder with --out"
        )


def _census_folder(folder: Path) -> Path:
    """The folder itself if it is a census, or else the only census in it."""
    if (folder / "plan.json").is_file():
        return folder
    inside = sorted(path.parent for path in folder.glob("*/plan.json"))
    if len(inside) == 1:
        return inside[0]
    found = f"those of {len(inside)} models; name one of them" if inside else "no shard of a census: no plan.json"
    raise HeadatlasError(f"{folder} holds {found}")


def _shard(text: str) -> tuple[int, int]:
    try:
        number, of = (int(part) for part in text.split("/"))
    except ValueError:
        number, of = 0, 0
    if not 1 <= number <= of:
        raise HeadatlasError(f"--shard {text} is not of the form i/n, such as 2/3; shards count from 1")
    return number, of
