"""The pages of methods, benchmarks, circuits, models and papers, each kind with its list."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from headatlas import specimens
from headatlas.catalog.schema import Family, Reference
from headatlas.evidence.signs import FOUND
from pages import map_view
from pages.atlas import Atlas
from pages.maps import ModelMap
from pages.render import page, text
from pages.specimen import card_of


def pages_of(atlas: Atlas, kind: str, template: str, **more: Any) -> dict[str, str]:
    """The pages of methods or benchmarks: id -> page; `more` is for their template."""
    families = {id: each for each in getattr(atlas.catalog.taxonomy, kind) for id in each.members}
    return {
        id: page(
            f"{template}.md",
            atlas=atlas,
            entity=entity,
            family=families[id],
            heads=[head for head in atlas.catalog.heads.values() if id in getattr(head, kind)],
            sources=atlas.catalog.sources(entity),
            **more,
        )
        for id, entity in getattr(atlas.catalog, kind).items()
    }


def circuit_pages(atlas: Atlas) -> dict[str, str]:
    """Circuit pages: id -> page."""
    return {
        id: page("circuit.md", atlas=atlas, entity=entity, sources=atlas.catalog.sources(entity))
        for id, entity in atlas.catalog.circuits.items()
    }


def model_pages(atlas: Atlas, censuses: set[str], maps: Mapping[str, ModelMap]) -> dict[str, str]:
    """Model pages: id -> page.

    Args:
        atlas: all data of the site.
        censuses: ids of models with a census.
        maps: the names of heads, of models in which a head has one.
    """
    return {
        id: page(
            "model.md",
            atlas=atlas,
            entity=entity,
            map=map_view.view(atlas, maps[id]) if id in maps else None,
            runs=atlas.runs_on(id),
            found=FOUND,
            census=id in censuses,
            each=card_of(id) if id in specimens.names()[1:] else None,
            sources=atlas.catalog.sources(entity),
        )
        for id, entity in atlas.catalog.models.items()
    }


def paper_pages(atlas: Atlas) -> dict[str, str]:
    """Paper pages: key -> page."""
    return {
        key: page(
            "paper.md",
            atlas=atlas,
            reference=reference,
            findings=list(atlas.catalog.findings(source=key)),
            citing=atlas.citing(key),
        )
        for key, reference in atlas.catalog.references.items()
    }


def papers_page(atlas: Atlas) -> str:
    """The bibliography, newest first."""
    years: dict[str, list[Reference]] = defaultdict(list)
    for reference in atlas.catalog.references.values():
        years[reference.year].append(reference)
    return page("papers.md", atlas=atlas, years=sorted(years.items(), reverse=True))


def families_page(atlas: Atlas, kind: str, title: str, lead: str) -> str:
    """Methods or benchmarks by family."""
    families: tuple[Family, ...] = getattr(atlas.catalog.taxonomy, kind)
    rows = []
    for family in families:
        for id in family.members:
            entity = getattr(atlas.catalog, kind)[id]
            used = sum(id in getattr(head, kind) for head in atlas.catalog.heads.values())
            rows.append((_link(id, entity.name), entity.summary, family.name, str(used)))
    return page("listing.md", title=title, lead=lead, note=None, rows=rows, header=(title, "", "family", "head types"))


def circuits_page(atlas: Atlas) -> str:
    """All circuits."""
    rows = [
        (_link(id, each.name), each.summary, str(len(each.roles)), str(sum(len(role.heads) for role in each.roles)))
        for id, each in atlas.catalog.circuits.items()
    ]
    return page(
        "listing.md",
        title="Circuits",
        lead="Heads that work together on a task, as their papers describe them.",
        note=None,
        header=("circuit", "", "parts", "heads named"),
        rows=rows,
    )


def models_page(atlas: Atlas) -> str:
    """All models; models with runs come first."""
    rows: list[tuple[Any, ...]] = []
    ran = {result.record.model.catalog_id for result in atlas.results}
    for id, model in sorted(atlas.catalog.models.items(), key=lambda each: (each[0] not in ran, each[0])):
        types = len({head for head, named in atlas.reported if named == id})
        shape = f"{model.layers} x {model.heads}" if model.layers and model.heads else ""
        weights = f"{model.access}, in packages" if model.packages else model.access
        rows.append((_link(id, model.name), shape, weights, str(types), str(len(atlas.runs_on(id)))))
    return page(
        "listing.md",
        title="Models",
        lead="Models in which papers name heads, models that we ran, and models that headatlas fetches.",
        note=None,
        header=("model", "layers x heads", "weights", "types with reported heads", "recorded runs"),
        rows=rows,
    )


def _link(id: str, name: str) -> Markup:
    return Markup(f'<a href="{escape(id)}/">{text(name)}</a>')
