"""The command that lists the names of a head, or maps all heads of a model."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.opening import add_census_option
from headatlas.cli.commands.output import print_json

if TYPE_CHECKING:
    from headatlas import Head
    from headatlas.catalog.collections import Naming
    from headatlas.census.head_names import HeadNames
    from headatlas.cli.commands.adding import Commands


def add_to(commands: "Commands") -> None:
    """The command, with its options."""
    parser = add(
        commands, "who", who, "list the names of a head, or map all heads of a model", "headatlas who gpt2 L10H7"
    )
    parser.add_argument("model", metavar="MODEL", help="id, name or hub id of a model, or its census file")
    parser.add_argument(
        "head", nargs="?", metavar="HEAD", help="such as L10H7 or 10.7, from 0; without one, the map of the model"
    )
    add_census_option(parser)


def who(options: argparse.Namespace) -> int:
    """Print the names of one head of a model, or the map of all its heads."""
    from headatlas import Head, load
    from headatlas.census.head_names import head_names

    catalog = load()
    head = Head.parse(options.head) if options.head else None
    names = head_names(catalog, options.model, options.census)
    if head is not None:
        names.require(head)
    if options.json:
        print_json(_who_as_json(names, head))
    elif head is not None:
        from headatlas.cli.terminal import who_view

        who_view.print_who(catalog, names, head)
    else:
        from headatlas.cli.terminal import map_view

        map_view.print_map(names)
    return 0


def _who_as_json(names: "HeadNames", head: "Head | None") -> dict[str, object]:
    """Names of one head, or of all heads that have one; what papers report and what was measured stay apart."""

    def of(each: "Head") -> dict[str, object]:
        return {
            "head": str(each),
            "reported": [_naming_as_json(naming) for naming in names.reported.get(each, ())],
            "measured": [asdict(name) for name in names.measured.get(each, ())],
        }

    about: dict[str, object] = {"model": names.id, "measured_in": names.source or None}
    if head is not None:
        return about | of(head)
    return about | {"heads": [of(each) for each in sorted({*names.reported, *names.measured})]}


def _naming_as_json(naming: "Naming") -> dict[str, object]:
    return {
        "type": naming.head_type.id,
        "name": naming.head_type.name,
        "sources": naming.sources,
        "findings": [each.model_dump(mode="json") for each in naming.findings],
        "disputing": [each.model_dump(mode="json") for each in naming.disputing],
        "circuits": [circuit.id for circuit, _ in naming.roles],
    }
