"""The index of the site's search: one file, which a page loads when somebody searches."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify, unique

from headatlas.census.schema import Census
from pages.atlas import Atlas
from pages.render import line

_HEADING = re.compile(r"^#{1,3} +(.+?) *(?:\{ *#([\w-]+) *\})?$")
_FENCE = re.compile(r"^\s*(```|~~~)")
Row = list[Any]


def search_index(
    atlas: Atlas, censuses: Sequence[Census], site: Path, pages: Collection[str], menu: Iterable[tuple[str, str, str]]
) -> dict[str, Any]:
    """All that can be found.

    Entries are [title, address, note, other names]. Findings are [number of the head type, id, statement, number of
    the paper]. Heads are {model: {head: [types reported, types measured, findings, 1 with a page of its own]}}, types
    by number.

    Args:
        atlas: all data of the site.
        censuses: all recorded ones.
        site: the folder of all pages, generated ones included: a head has a page where its file is there.
        pages: the generated pages.
        menu: name, file and section of each page of the menu.
    """
    catalog = atlas.catalog
    types = {id: number for number, id in enumerate(catalog.heads)}
    papers = {key: number for number, key in enumerate(catalog.references)}
    return {
        "entries": {
            "type": [
                [head.name, f"heads/{id}/", line(head.summary), "; ".join([id, *(each.name for each in head.aliases)])]
                for id, head in catalog.heads.items()
            ],
            "circuit": _named(catalog.circuits, "circuits"),
            "method": _named(catalog.methods, "methods"),
            "benchmark": _named(catalog.benchmarks, "benchmarks"),
            "term": [
                [term.name, f"glossary/#{id}", _short(term.definition), "; ".join([id, *term.forms])]
                for id, term in catalog.glossary.items()
            ],
            "model": [
                [model.name, f"models/{id}/", model.architecture, "; ".join([id, *model.hub])]
                for id, model in catalog.models.items()
            ],
            "page": [
                *([name, _address(file), section, ""] for name, file, section in menu),
                *(
                    row
                    for name in _by_hand(site, pages)
                    for row in sections(name.read_text("utf-8"), _address(name.name))
                ),
            ],
            "paper": [
                [each.short, f"papers/{key}/", line(each.title), f"{key}; {line(each.author)}"]
                for key, each in catalog.references.items()
            ],
        },
        "findings": [
            [types[known.head_type.id], known.finding.id, line(known.finding.statement), papers[known.finding.source]]
            for known in catalog.findings()
        ],
        "heads": _heads(atlas, censuses, site, types),
    }


def _named(entities: Mapping[str, Any], kind: str) -> list[Row]:
    return [[each.name, f"{kind}/{id}/", line(each.summary), id] for id, each in entities.items()]


def _short(text: str) -> str:
    return re.split(r"(?<=[.]) ", line(text), maxsplit=1)[0]


def _heads(atlas: Atlas, censuses: Sequence[Census], site: Path, types: Mapping[str, int]) -> dict[str, dict[str, Row]]:
    """The heads that papers name, and those that a census or a run on a pretrained model gives a name."""
    found: dict[tuple[str, str], Row] = defaultdict(lambda: [[], [], 0, 0])

    def add(model: str, head: str, column: int, type: str) -> None:
        listed = found[model, head][column]
        if types[type] not in listed:
            listed.append(types[type])

    for known in atlas.catalog.findings():
        for head in known.finding.heads:
            model = str(known.finding.model)
            found[model, str(head)][2] += 1
            if known.finding.stance == "supports":
                add(model, str(head), 0, known.head_type.id)
    for census in censuses:
        for each in census.heads:
            for label in each.labels:
                add(census.model.id, each.head, 1, label.type)
    for model in atlas.leading:
        for result in atlas.runs_on(model):
            for head in result.record.selected:
                add(model, str(head), 1, result.record.entry.id)
    by_model: dict[str, dict[str, Row]] = defaultdict(dict)
    for (model, name), row in found.items():
        if model in atlas.catalog.models:
            by_model[model][name] = [*row[:3], int(_has_page(site, model, name))]
    return dict(by_model)


def _has_page(site: Path, model: str, head: str) -> bool:
    folder = site / "models" / model
    return (folder / f"{head}.md").is_file() or (folder / head / "index.html").is_file()


def _address(file: str) -> str:
    address = file.removesuffix(".md")
    return "" if address == "index" else f"{address.removesuffix('index').removesuffix('/')}/"


def _by_hand(site: Path, pages: Collection[str]) -> list[Path]:
    """The pages written by hand: the search has their text, since nothing else on the site does."""
    return [path for path in sorted(site.glob("*.md")) if path.name not in pages]


def sections(source: str, address: str) -> Iterator[Row]:
    """The sections of a page of Markdown below its title: heading, address, title of the page, text."""
    title, used, fenced = "", set[str](), False
    row: Row | None = None
    for each in source.splitlines():
        fenced ^= bool(_FENCE.match(each))
        found = None if fenced else _HEADING.match(each)
        if found:
            heading = re.sub(r"[`*]", "", found[1])
            anchor = found[2] or unique(slugify(heading, "-"), used)
            if row:
                yield row
            row = [heading, f"{address}#{anchor}", title, ""] if title else None
            title = title or heading
        elif row:
            row[3] = line(f"{row[3]} {each}")
    if row:
        yield row
