"""The index of the site's search: one file, which a page loads when somebody searches."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markdown.extensions.toc import slugify, unique

from headatlas.census.schema import Census
from pages.atlas import Atlas
from pages.render import line

_HEADING = re.compile(r"^(#{1,3}) +(.+?) *$")
_FENCE = re.compile(r"^\s*(```|~~~)")
Row = list[Any]


def search_index(atlas: Atlas, censuses: Sequence[Census], pages: Mapping[str, str], site: Path) -> dict[str, Any]:
    """All that can be found.

    Entries are [title, address, note, other names]. Findings are [number of the head type, id, statement, number of
    the paper]. Heads are {model: {head: [types reported, types measured, findings, 1 with a page of its own]}}, types
    by number.

    Args:
        atlas: all data of the site.
        censuses: all recorded ones.
        pages: file name -> generated page; a head has a page of its own if `models/<id>/L10H7.md` is there.
        site: the folder with the pages written by hand and `mkdocs.yml` beside it.
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
            "page": [*_of_menu(site), *_sections(site, pages)],
            "paper": [
                [each.short, f"papers/{key}/", line(each.title), f"{key}; {line(each.author)}"]
                for key, each in catalog.references.items()
            ],
        },
        "findings": [
            [types[known.head_type.id], known.finding.id, line(known.finding.statement), papers[known.finding.source]]
            for known in catalog.findings()
        ],
        "heads": _heads(atlas, censuses, pages, types),
    }


def _named(entities: Mapping[str, Any], kind: str) -> list[Row]:
    return [[each.name, f"{kind}/{id}/", line(each.summary), id] for id, each in entities.items()]


def _short(text: str) -> str:
    return re.split(r"(?<=[.]) ", line(text), maxsplit=1)[0]


def _heads(
    atlas: Atlas, censuses: Sequence[Census], pages: Collection[str], types: Mapping[str, int]
) -> dict[str, dict[str, Row]]:
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
            by_model[model][name] = [*row[:3], int(f"models/{model}/{name}.md" in pages)]
    return dict(by_model)


def _of_menu(site: Path) -> Iterator[Row]:
    """The pages of the menu, with the section that they are in."""
    settings = yaml.safe_load((site.parent / "mkdocs.yml").read_text(encoding="utf-8"))
    for title, inside in (pair for entry in settings["nav"] for pair in entry.items()):
        for name, file in ((title, inside),) if isinstance(inside, str) else (p for e in inside for p in e.items()):
            yield [name, _address(file), "" if isinstance(inside, str) else title, ""]


def _address(file: str) -> str:
    address = file.removesuffix(".md")
    return "" if address == "index" else f"{address.removesuffix('index').removesuffix('/')}/"


def _sections(site: Path, pages: Collection[str]) -> Iterator[Row]:
    """The sections of the pages written by hand, each with its text: nothing else on the site searches them."""
    for path in sorted(site.glob("*.md")):
        if path.name not in pages:
            yield from sections(path.read_text(encoding="utf-8"), _address(path.name))


def sections(source: str, address: str) -> Iterator[Row]:
    """The sections of a page of Markdown below its title: heading, address, title of the page, text."""
    title, used, fenced = "", set[str](), False
    row: Row | None = None
    for each in source.splitlines():
        fenced ^= bool(_FENCE.match(each))
        found = None if fenced else _HEADING.match(each)
        if found:
            heading = re.sub(r"[`*]", "", found[2])
            anchor = unique(slugify(heading, "-"), used)
            if row:
                yield row
            row = [heading, f"{address}#{anchor}", title, ""] if title else None
            title = title or heading
        elif row:
            row[3] = line(f"{row[3]} {each}")
    if row:
        yield row
