"""The commands that read and write the catalog."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.adding import add
from headatlas.cli.commands.output import print_json, write_data, write_json
from headatlas.errors import HeadatlasError
from headatlas.locations import DEFAULT_CENSUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headatlas import Head
    from headatlas.catalog.catalog import Catalog
    from headatlas.catalog.collections import Naming
    from headatlas.census.head_names import HeadNames
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

    parser = add(commands, "who", who, "list the names of a head, or map all heads of a model", "headatlas who gpt2 L10H7")
    parser.add_argument("model", metavar="MODEL", help="id, name or hub id of a model, or its census file")
    parser.add_argument(
        "head", nargs="?", metavar="HEAD", help="such as L10H7 or 10.7, from 0; without one, the map of the model"
    )
    parser.add_argument(
        "--census",
        type=Path,
        default=DEFAULT_CENSUS,
        metavar="FOLDER",
        help=f"folder of censuses, beside those that ship (default {DEFAULT_CENSUS})",
    )

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

    parser = add(
        commands,
        "validate",
        validate,
        "check every file of the catalog",
        "headatlas validate",
        json="print the problems as JSON",
    )
    parser.add_argument("--catalog", type=Path, metavar="FOLDER", help="use another catalog folder")

    parser = add(commands, "new", new, "start a new head type: an entry and a script", "headatlas new quotation-mark")
    parser.add_argument("id", metavar="ID", help="lower case, words joined by hyphens")
    parser.add_argument("--catalog", type=Path, metavar="FOLDER", help="use another catalog folder")


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


def validate(options: argparse.Namespace) -> int:
    """Check the catalog and every reproduction script, and print every problem of every file."""
    from headatlas import locations
    from headatlas.catalog.loading import check, reproductions_of
    from headatlas.protocol import script_check

    catalog, problems = check(options.catalog)
    if catalog is not None:
        problems += script_check.scripts(catalog, reproductions_of(options.catalog or locations.catalog()))
    if options.json:
        print_json([problem._asdict() for problem in problems])
        return EXIT_MISTAKE if problems else 0
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the catalog"
        raise HeadatlasError("\n".join([count, *map(str, problems)]))
    assert catalog is not None
    findings = catalog.findings()
    named = sum(bool(finding.heads) for _, finding in findings)
    print(
        f"catalog is valid: {len(catalog.heads)} head types, {len(findings)} findings ({named} name heads), "
        f"{len(catalog.methods)} methods, {len(catalog.benchmarks)} benchmarks, {len(catalog.circuits)} circuits, "
        f"{len(catalog.models)} models, {len(catalog.references)} sources"
    )
    return 0


def new(options: argparse.Namespace) -> int:
    """Start a new head type from a template."""
    from headatlas.catalog import scaffold

    started = scaffold.new(options.id, options.catalog)
    if options.json:
        print_json({"file": str(started.entry), "script": str(started.script)})
    else:
        print(
            f"wrote {started.entry}\nwrote {started.script}\n"
            "fill in both, add the sources to references.bib, then:\n"
            f"  headatlas validate\n  headatlas run {options.id}\n  make readme test"
        )
    return 0
