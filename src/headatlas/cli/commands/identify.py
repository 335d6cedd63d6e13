"""The command that says which known types a list of heads is."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.opening import add_census_option
from headatlas.cli.commands.output import print_json
from headatlas.errors import HeadatlasError

if TYPE_CHECKING:
    from headatlas.catalog.catalog import Catalog
    from headatlas.census.head_lists import ModelShape
    from headatlas.census.schema import Census
    from headatlas.cli.commands.adding import Commands


def add_to(commands: Commands) -> None:
    """The command, with its options."""
    parser = add(
        commands,
        "identify",
        identify,
        "say which known types a list of heads is",
        "headatlas identify gpt2 heads.txt",
    )
    parser.add_argument("model", metavar="MODEL", help="the model of the heads, or its census file")
    parser.add_argument("list", metavar="FILE", help="a list of heads, as L5H10 or as tools write it; - for the input")
    parser.add_argument(
        "--top", type=int, metavar="N", help="of a file with a score for every head, the N highest (no default)"
    )
    add_census_option(parser)


def identify(options: argparse.Namespace) -> int:
    """Compare a list of heads with the heads of every known type."""
    from headatlas import load
    from headatlas.census import head_lists, identifying, reading

    if options.top is not None and options.top < 1:
        raise HeadatlasError("--top must be at least 1")
    catalog = load()
    place = reading.find(options.model, options.census)
    census = reading.read(place) if place else None
    shape, known = _about(catalog, options.model, census)
    text = sys.stdin.read() if options.list == "-" else head_lists.read_file(Path(options.list))
    heads = head_lists.read_heads(text, shape, options.top)
    reported = identifying.reported_heads(catalog, known) if known else {}
    every = len(census.heads) if census else shape.layers * shape.heads
    found = identifying.identify(heads, every, census, reported)
    if options.json:
        listed = [str(head) for head in heads]
        print_json({"model": shape.name, "heads": listed, "types": [asdict(each) for each in found]})
    else:
        from headatlas.cli.terminal import identify_view

        identify_view.print_identified(shape, heads, found, census)
    return 0


def _about(catalog: Catalog, name: str, census: Census | None) -> tuple[ModelShape, str | None]:
    """The shape of the model, and its id in the catalog, from its census or the catalog."""
    from headatlas.census.head_lists import ModelShape

    if census:
        model = census.model
        return ModelShape(model.name, model.layers, model.heads, model.kv_heads), model.catalog_id
    about = catalog.model(name)
    if not (about.layers and about.heads):
        raise HeadatlasError(f"the catalog does not know how many heads {about.name} has; take a census of it first")
    return ModelShape(about.name, about.layers, about.heads, about.kv_heads or about.heads), about.id
