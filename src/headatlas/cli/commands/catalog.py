"""The commands that read and write the catalog."""

import argparse

from headatlas.cli.commands import EXIT_MISTAKE
from headatlas.cli.commands.output import print_json, write_data, write_json
from headatlas.errors import HeadatlasError


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

        catalog_view.print_list(catalog, heads)
    return 0


def show(options: argparse.Namespace) -> int:
    """Print one head type in full."""
    from headatlas import load

    catalog = load()
    head = catalog.head(options.id)
    if options.json:
        print_json(head.model_dump(mode="json"))
    else:
        from headatlas.cli.terminal import catalog_view

        catalog_view.print_head(catalog, head)
    return 0


def search(options: argparse.Namespace) -> int:
    """Search names and full text."""
    from headatlas import load

    query = " ".join(options.words)
    hits = load().search(query)
    if options.json:
        rows = [{"id": h.head_type.id, "score": round(h.score, 3), "where": h.where, "text": h.excerpt} for h in hits]
        print_json(rows)
    else:
        from headatlas.cli.terminal import catalog_view

        catalog_view.print_hits(hits, query)
    return 0


def who(options: argparse.Namespace) -> int:
    """Print the names of one head of a model."""
    from headatlas import Head, load

    catalog = load()
    model, head = catalog.model(options.model), Head.parse(options.head)
    namings = catalog.who(model.id, head)
    if options.json:
        print_json(
            [
                {
                    "type": naming.head_type.id,
                    "name": naming.head_type.name,
                    "sources": naming.sources,
                    "findings": [each.model_dump(mode="json") for each in naming.findings],
                    "disputing": [each.model_dump(mode="json") for each in naming.disputing],
                    "circuits": [circuit.id for circuit, _ in naming.roles],
                }
                for naming in namings
            ]
        )
    else:
        from headatlas.cli.terminal import catalog_view

        catalog_view.print_who(catalog, model, head, namings)
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


def validate(options: argparse.Namespace) -> int:
    """Check the catalog and the scripts, and print every problem."""
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
