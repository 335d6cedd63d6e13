"""Pages that only show the catalog: errata, explanations, glossary, viewpoints, data."""

from typing import Any, get_args

from headatlas import locations
from headatlas.catalog.schema import TopicPart
from pages.atlas import Atlas
from pages.render import page


def plain_pages(atlas: Atlas) -> dict[str, str]:
    """File name -> page."""
    topics = {
        part: [each for each in atlas.catalog.topics.values() if each.part == part] for part in get_args(TopicPart)
    }
    made = {
        name: page(name, atlas=atlas, topics=topics) for name in ("errata.md", "glossary.md", "survey.md", "beyond.md")
    }
    made["explained.md"] = page("explained.md", atlas=atlas, cases=_explained(atlas))
    schemas = sorted(path.stem for path in (locations.catalog() / "schema").glob("*.json"))
    return made | {"api/index.md": page("api.md", schemas=schemas)}


def _explained(atlas: Atlas) -> list[dict[str, Any]]:
    """Every explanation, with its head type and the verdict that is recorded, if any."""
    labels = {(each.record.entry.id, each.record.model.id): each.record.verdict.label for each in atlas.results}
    return [
        each.model_dump() | {"head": head, "verdict": labels.get((head.id, each.model))}
        for head in atlas.catalog.heads.values()
        for each in head.reproduction.explained
    ]
