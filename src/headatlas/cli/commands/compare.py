"""The commands that read censuses: two models beside each other, and the heads of a type for other tools."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.fetching import fetched_first
from headatlas.cli.commands.opening import add_model_options, model_options
from headatlas.cli.commands.output import print_json, write_data, write_json
from headatlas.errors import HeadatlasError
from headatlas.locations import DEFAULT_CENSUS

if TYPE_CHECKING:
    from headatlas.census.schema import Census
    from headatlas.cli.commands.adding import Commands

# As headatlas.census.exchange has them, which is imported only when it is needed.
HEAD_FORMATS = ("json", "csv", "headkv", "duoattention", "qrhead", "transformerlens")


def add_to(commands: Commands) -> None:
    """The commands that read censuses, with their options."""
    where = f"folder of censuses; a missing census is taken (default {DEFAULT_CENSUS})"
    parser = add(
        commands, "compare", compare, "compare the head types of two models", "headatlas compare specimen gpt2"
    )
    parser.add_argument("first", metavar="A", help="a model, or a census file")
    parser.add_argument("second", metavar="B", help="another model, or a census file")
    parser.add_argument("--census", type=Path, default=DEFAULT_CENSUS, metavar="FOLDER", help=where)
    add_model_options(parser)

    parser = add(
        commands,
        "heads",
        heads,
        "export the heads of a type to other tools",
        "headatlas heads specimen --type retrieval --format headkv",
        json="the same as --format json",
    )
    parser.add_argument("model", metavar="MODEL", help="a model, or a census file")
    parser.add_argument("--type", required=True, metavar="ID", help="id, name or alias of a head type")
    parser.add_argument("--format", choices=HEAD_FORMATS, default="json", help="default json")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write; FILE.rule.json beside it gets the rule"
    )
    parser.add_argument("--census", type=Path, default=DEFAULT_CENSUS, metavar="FOLDER", help=where)
    add_model_options(parser)


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
        from headatlas.cli.terminal import comparison_view

        comparison_view.print_comparison(first, second, found)
    return 0


def heads(options: argparse.Namespace) -> int:
    """Export the heads of one type for other tools."""
    from headatlas import load
    from headatlas.census import exchange
    from headatlas.evidence import files

    id = load().head(options.type).id
    found = _taken(options.model, options)
    format: exchange.HeadFormat = "json" if options.json else options.format
    text, rule = exchange.text(found, id, format), exchange.rule(found, id)
    if options.out is None:
        (write_json if format in ("json", "headkv", "transformerlens") else write_data)(text)
        if format not in ("json", "qrhead"):  # these say it themselves
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
    from headatlas.fetching import known

    here = Path(name).exists() or Path(name).suffix == ".json" or name in specimens.names()
    return not here and known.packaged(name) is None


def _taken(name: str, options: argparse.Namespace) -> Census:
    """The census of a model: the given file, an earlier census of the same model, one that ships, or a new one."""
    from headatlas.census import reading, reusable

    given = reading.as_given(name)
    if given is not None:
        return reading.read(given)
    if Path(name).suffix == ".json":
        raise HeadatlasError(f"there is no census file {name}; `headatlas census MODEL` makes one")
    asked, places = model_options(options), reading.by_name(name, options.census)
    if not _may_have_revisions(name) and options.command is compare:
        asked = replace(asked, revision=None)  # it is that of the other
    if known := reusable.find_reusable(name, asked, options.dtype is not None, places, _tell):
        return known
    from headatlas import load
    from headatlas.cli.terminal.progress import ProgressBar

    catalog = load()
    with ProgressBar(f"census of {name}") as progress:
        fetched_first(name, asked.revision, progress)
        from headatlas.census import labelling, page, parallel

        order = parallel.CensusRequest(name, asked)
        _, folder = parallel.run_census(catalog, order, options.census, None, progress, progress.tell)
        found, _ = labelling.collect(catalog, [folder])
    page.write_all(catalog, found, folder)
    return found
