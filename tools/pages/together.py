"""How heads work together: measured edges beside the published circuits."""

from pages.atlas import Atlas
from pages.render import page


def together_page(atlas: Atlas) -> str:
    """All circuits with published edges, and what was measured of them."""
    return page("together.md", atlas=atlas)


def written_censuses() -> set[str]:
    """The models that have a recorded census."""
    return set()
