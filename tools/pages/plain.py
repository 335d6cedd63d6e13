"""Pages that only show the catalog: errata, glossary, viewpoints, data."""

from headatlas import locations
from pages.atlas import Atlas
from pages.render import page


def plain_pages(atlas: Atlas) -> dict[str, str]:
    """File name -> page."""
    made = {name: page(name, atlas=atlas) for name in ("errata.md", "glossary.md", "survey.md")}
    schemas = sorted(path.stem for path in (locations.catalog() / "schema").glob("*.json"))
    return made | {"api/index.md": page("api.md", schemas=schemas)}
