"""The commands that name, compare and export all heads of a model."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.opening import model_options
from headatlas.cli.commands.output import print_json, write_data, write_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.census.schema import Census


def census(options: argparse.Namespace) -> int:
    """Name every head of a model."""
    from headatlas import load

    catalog, shard = load(), _shard(options.shard)
    if options.jobs is not None and options.jobs < 1:
        raise HeadatlasError("--jobs must be at least 1")
    from headatlas.cli.terminal.progress import Progress

    with Progress("census") as progress:
        progress("starting up", 0, 0)
        from headatlas.census import parallel
        from headatlas.evidence import records

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
            records.require_writable(options.out)
            _, folder = parallel.run_census(catalog, order, options.out, options.jobs, progress, progress.tell)
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
    found = f"censuses of {len(inside)} models; name one of them" if inside else "no shard of a census: no plan.json"
    raise HeadatlasError(f"{folder} holds {found}")


def _shard(text: str) -> tuple[int, int]:
    try:
        number, of = (int(part) for part in text.split("/"))
    except ValueError:
        number, of = 0, 0
    if not 1 <= number <= of:
        raise HeadatlasError(f"--shard {text} is not of the form i/n, such as 2/3; shards count from 1")
    return number, of


def compare(options: argparse.Namespace) -> int:
    """Compare the head types of two models."""
    from headatlas.census import comparing

    names = (options.first, options.second)
    if options.revision is not None and not any(map(_may_have_revisions, names)):
        raise HeadatlasError("--revision needs a hub id, and neither model is one; leave it out")
    first, second = (_taken(name, options) for name in names)
    found = comparing.compare(first, second)
    if options.json:
        print_json([asdict(each) for each in found])
    else:
        from headatlas.cli.terminal import census_view

        census_view.print_comparison(first, second, found)
    return 0


def heads(options: argparse.Namespace) -> int:
    """Export the heads of one type for other tools."""
    from headatlas import load
    from headatlas.census import exchange
    from headatlas.evidence import files

    id = load().head(options.type).id
    found = _taken(options.model, options)
    format: exchange.Format = "json" if options.json else options.format
    text, rule = exchange.text(found, id, format), exchange.rule(found, id)
    if options.out is None:
        (write_json if format in ("json", "headkv", "transformerlens") else write_data)(text)
        if format not in ("json", "qrhead"):  # these formats contain the rule
            print(f"{rule['type']} heads of {rule['model']}: {rule['rule']}", file=sys.stderr)
        return 0
    files.write(options.out, text)
    beside = files.write(options.out.with_name(f"{options.out.name}.rule.json"), json.dumps(rule, indent=1) + "\n")
    print(f"wrote {options.out}, and its rule to {beside}")
    return 0


def _tell(line: str) -> None:
    print(f"headatlas: {line}", file=sys.stderr)


def _may_have_revisions(name: str) -> bool:
    """True if a name may be a hub id."""
    from headatlas import specimens

    return not (Path(name).exists() or Path(name).suffix == ".json" or name in specimens.names())


def _taken(name: str, options: argparse.Namespace) -> Census:
    """The census of a model: the given file, an earlier census of the same model, one that ships, or a new one."""
    from headatlas.census import at_hand, reading

    given = reading.as_given(name)
    if given is not None:
        return reading.read(given)
    if Path(name).suffix == ".json":
        raise HeadatlasError(f"there is no census file {name}; `headatlas census MODEL` makes one")
    asked, places = model_options(options), reading.by_name(name, options.census)
    if not _may_have_revisions(name) and options.command is compare:
        asked = replace(asked, revision=None)  # the revision is meant for the other model
    if known := at_hand.fitting(name, asked, options.dtype is not None, places, _tell):
        return known
    from headatlas import load
    from headatlas.cli.terminal.progress import Progress

    catalog = load()
    with Progress(f"census of {name}") as progress:
        from headatlas.census import labelling, page, parallel

        order = parallel.CensusRequest(name, asked)
        _, folder = parallel.run_census(catalog, order, options.census, None, progress, progress.tell)
        found, _ = labelling.collect(catalog, [folder])
    page.write_all(catalog, found, folder)
    return found
