"""The commands that read the catalog."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands.adding import add
from headatlas.cli.commands.output import print_json, write_data, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headatlas.catalog.catalog import Catalog
    from headatlas.cli.commands.adding import Commands
    from headatlas.protocol.results import Result


def add_to(commands: "Commands") -> None:
    """The commands of the catalog, with their options."""
    parser = add(commands, "list", list_heads, "list the head types", "headatlas list --stage LR --model gpt2")
    parser.add_argument("--stage", help="id, name or short form (KR, ICI, LR, EP)")
    parser.add_argument("--group", help="id of a group of the survey")
    parser.add_argument("--model", help="types with a finding about this model (id or hub id)")
    parser.add_argument("--method", help="types studied with this method")
    parser.add_argument("--benchmark", help="types studied on this benchmark")
    parser.add_argument("--circuit", help="types that take part in this circuit")
    parser.add_argument("--status", help="established, supported, contested or single-source")
    parser.add_argument("--placed-by", choices=("survey", "headatlas"), help="types of the survey, or all others")
    parser.add_argument("--reproduction", action="store_true", default=None, help="types that `run` can rerun")
    parser.add_argument("--text", help="types that match these words, best first")

    parser = add(commands, "show", show, "show one head type", "headatlas show induction")
    parser.add_argument("id", metavar="ID", help="id, name or alias of a head type")
    parser.add_argument("--all", action="store_true", help="every finding, and how a rerun is judged")

    parser = add(commands, "search", search, "search names and full text", 'headatlas search "needle in a haystack"')
    parser.add_argument("words", nargs="+", metavar="WORD", help="words to search for; typing errors are tolerated")

    parser = add(
        commands, "cite", cite, "cite the sources of entries", "headatlas cite induction wang2023interpretability"
    )
    parser.add_argument("ids", nargs="+", metavar="ID", help="ids of entries of any kind, or BibTeX keys")
    parser.add_argument("--format", choices=("bibtex", "text"), default="bibtex", help="default bibtex")

    parser = add(
        commands,
        "export",
        export,
        "export the catalog as data",
        "headatlas export --format csv > findings.csv",
        json="the same as --format json",
    )
    parser.add_argument("--format", choices=("json", "jsonl", "csv", "bibtex"), default="json", help="default json")
    parser.add_argument("--of", choices=("findings", "heads"), default="findings", help="rows of csv and jsonl")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write, instead of the terminal")


def list_heads(options: argparse.Namespace) -> int:
    """Print the head types that meet all conditions."""
    from headatlas import load

    catalog = load()
    names = ("stage", "group", "model", "method", "benchmark", "circuit", "status", "placed_by", "reproduction", "text")
    heads = catalog.find(**{name: getattr(options, name) for name in names})
    if options.json:
        print_json(heads.rows())
    else:
        from headatlas.cli.terminal import catalog_view

        catalog_view.print_list(catalog, heads, _shipped(catalog, heads) if options.reproduction else None)
    return 0


def _shipped(catalog: "Catalog", ids: "Iterable[str]") -> "list[Result]":
    """The runs that ship of some head types."""
    from headatlas import locations
    from headatlas.protocol import results

    return results.collect(catalog, locations.records(), types=list(ids))[0]


def show(options: argparse.Namespace) -> int:
    """Print one head type, in short or in full."""
    from headatlas import load

    catalog = load()
    head = catalog.head(options.id)
    if options.json:
        print_json(head.model_dump(mode="json"))
    else:
        from headatlas.cli.terminal import head_view

        found = _shipped(catalog, [head.id])
        (head_view.print_full if options.all else head_view.print_short)(catalog, head, found)
    return 0


def search(options: argparse.Namespace) -> int:
    """Search names and full text."""
    from headatlas import load

    query = " ".join(options.words)
    hits = load().search(query)
    if options.json:
        print_json(
            [
                {"id": hit.head_type.id, "score": round(hit.score, 3), "where": hit.where, "text": hit.excerpt}
                | {"matches": [{"where": each.where, "text": each.excerpt} for each in hit.matches]}
                for hit in hits
            ]
        )
    else:
        from headatlas.cli.terminal import catalog_view

        catalog_view.print_hits(hits, query)
    return 0


def cite(options: argparse.Namespace) -> int:
    """Print the sources of entries."""
    from headatlas import load

    catalog = load()
    references = catalog.cite(options.ids)
    if options.json:
        print_json([reference.model_dump(mode="json") for reference in references])
    elif options.format == "text":
        for reference in references:
            print(reference.text)
    else:
        write_data(catalog.bibtex(options.ids))
    return 0


def export(options: argparse.Namespace) -> int:
    """Print or write the catalog as data."""
    from headatlas import load
    from headatlas.catalog import exporting

    format: exporting.Format = "json" if options.json else options.format
    text = exporting.export(load(), format, options.of)
    if options.out is None:
        (write_json if format.startswith("json") else write_data)(text)
        return 0
    from headatlas.evidence import files

    files.write(options.out, text, folders=False)
    return 0
