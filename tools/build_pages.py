"""Writes the site's generated pages from the catalog and the run records.

    python tools/build_pages.py

This script runs before the site builder. Templates escape everything that comes from the catalog: an entry cannot put
markup on a page.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from headatlas import specimens
from headatlas.census.reading import recorded
from headatlas.census.schema import Census
from headatlas.errors import HeadatlasError
from pages import api, entities, named_heads, overviews, plain, together, try_it
from pages.atlas import Atlas, by_page, gather
from pages.censuses import census_pages, places
from pages.chance import chance_page
from pages.coverage import coverage_page
from pages.examples import Example, examples
from pages.explorer import explorer_data, explorer_page
from pages.heads import head_page
from pages.linking import TermLinks
from pages.maps import ModelMap, model_maps
from pages.news import News, cite_page, gather_news, news_page
from pages.outside import outside_page
from pages.patterns import RecordedPatterns, recorded_patterns
from pages.reference import addresses, reference_pages, rooms
from pages.render import page
from pages.search_index import search_index
from pages.specimen import specimen_page

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
_WITH_TERMS = ("heads", "methods", "benchmarks", "circuits")  # folders whose pages link terms to the glossary
# Folders that hold nothing but what is written here.
GENERATED: tuple[str, ...] = (
    "heads", "methods", "benchmarks", "circuits", "models", "papers", "api", "census", "try", "reference",
)  # fmt: skip


def main(site: Path = SITE) -> int:
    """Write every generated page, and replace the pages of the last run."""
    try:
        atlas = gather()
        runs = [result.record for result in atlas.runs_on(specimens.SPECIMEN)]
        censuses = [by_page(atlas.catalog, each) for each in recorded()]
        maps = model_maps(atlas.catalog, atlas.results, censuses)
        patterns, news = list(recorded_patterns()), gather_news(atlas, censuses)
        pages = all_pages(atlas, examples(runs), censuses, news, maps, patterns)
        heads = list(named_heads.head_pages(atlas, maps, censuses))
    except HeadatlasError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
        return 2
    for name in GENERATED:
        shutil.rmtree(site / name, ignore_errors=True)
    tried = {specimens.SPECIMEN, *(each.model.catalog_id or each.model.id for each in patterns)}
    for name, content in (*pages.items(), *((each.place, named_heads.html(atlas, each, tried)) for each in heads)):
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    try_it.write_try(atlas, censuses, patterns, site / "try")
    api.write_api(atlas, news, site, heads, _address())
    index = search_index(atlas, censuses, site, pages, menu())
    api.write_loaded(site, {"findings": explorer_data(atlas), "search": index})
    print(
        f"wrote {len(pages)} pages: {len(atlas.catalog.heads)} head types, {len(atlas.results)} recorded runs; "
        f"and {len(heads)} pages of named heads in {len(maps)} models"
    )
    return 0


def all_pages(
    atlas: Atlas,
    shown: Mapping[str, Example],
    censuses: Sequence[Census],
    news: News,
    maps: Mapping[str, ModelMap],
    patterns: Sequence[RecordedPatterns] = (),
) -> dict[str, str]:
    """All pages but those of single heads: file name -> page."""
    public = rooms()
    made = {
        "index.md": overviews.home_page(atlas, news),
        "heads/index.md": overviews.table_page(atlas),
        "try/index.md": try_it.try_page(atlas, patterns),
        "findings.md": explorer_page(atlas),
        "search.md": page("search.md"),
        "matrix.md": overviews.matrix_page(atlas),
        "coverage.md": coverage_page(atlas),
        "news.md": news_page(news),
        "cite.md": cite_page(news, len(atlas.catalog.references)),
        "assets/version.js": f"window.headatlas = {{version: {json.dumps(news.version)}}};\n",
        "depths.md": overviews.depths_page(atlas, places(atlas, censuses), len(censuses)),
        "timeline.md": overviews.timeline_page(atlas),
        "together.md": together.together_page(atlas, [by_page(atlas.catalog, each) for each in together.recorded()]),
        "outside.md": outside_page(atlas),
        "chance.md": chance_page(atlas),
        "specimen.md": specimen_page(atlas),
        "methods/index.md": entities.families_page(atlas, "methods", "Methods", "How heads are found and tested."),
        "benchmarks/index.md": entities.families_page(
            atlas, "benchmarks", "Benchmarks", "Data on which heads are found and tested."
        ),
        "circuits/index.md": entities.circuits_page(atlas),
        "models/index.md": entities.models_page(atlas),
        "papers/index.md": entities.papers_page(atlas),
        **plain.plain_pages(atlas),
        **census_pages(atlas, censuses),
        **reference_pages(public),
    }
    for head in atlas.catalog.heads.values():
        made[f"heads/{head.id}.md"] = head_page(atlas, head, shown.get(head.id))
    for kind, pages in (
        ("methods", entities.pages_of(atlas, "methods", "method", documented=addresses(public))),
        ("benchmarks", entities.pages_of(atlas, "benchmarks", "benchmark")),
        ("circuits", entities.circuit_pages(atlas)),
        ("models", entities.model_pages(atlas, {census.model.id for census in censuses}, maps)),
        ("papers", entities.paper_pages(atlas)),
    ):
        made |= {f"{kind}/{id}.md": content for id, content in pages.items()}
    links = TermLinks(atlas.catalog)
    return {
        name: links.link(content, "../" * len(Path(name).parts)) if _has_terms(name) else content
        for name, content in made.items()
    }


def _has_terms(name: str) -> bool:
    """Whether a page links the first use of each term to the glossary: entries, and what lies beside heads."""
    folder, file = Path(name).parent.name, Path(name).name
    return name == "beyond.md" or (folder in _WITH_TERMS and file != "index.md")


def _settings() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8")))


def menu() -> Iterator[tuple[str, str, str]]:
    """Name, file and section of each page of the menu; '' for pages without a section."""
    for entry in _settings()["nav"]:
        for name, inside in entry.items():
            if isinstance(inside, str):
                yield name, inside, ""
            else:
                yield from ((page, file, name) for each in inside for page, file in each.items())


def _address() -> str:
    """The URL of the site from mkdocs.yml; '' if there is none."""
    address = str(_settings().get("site_url") or "")
    return address if not address or address.endswith("/") else f"{address}/"


if __name__ == "__main__":
    sys.exit(main())
