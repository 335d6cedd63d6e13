"""Paths of the catalog, the reproductions and the records, in a checkout or in the installed wheel."""

from pathlib import Path

# Where commands write in the current folder, unless they are told where.
DEFAULT_OUT = Path("headatlas-records")
DEFAULT_COLLABORATION = Path("headatlas-collaboration")
DEFAULT_CENSUS = Path("headatlas-census")

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def is_checkout() -> bool:
    """True if this package runs from a checkout of the project, not from an installed wheel."""
    return (_CHECKOUT / "catalog" / "taxonomy.yaml").is_file()


def _content(name: str) -> Path:
    """The path of `name` in the checkout, or in the wheel's `_content`."""
    return _CHECKOUT / name if is_checkout() else _PACKAGE / "_content" / name


def catalog() -> Path:
    """The folder of the catalog's YAML files."""
    return _content("catalog")


def reproductions() -> Path:
    """The folder of the reproduction scripts."""
    return _content("reproductions")


def records() -> Path:
    """The folder of the recorded runs that ship with the project."""
    return reproductions() / "results"


def censuses() -> Path:
    """The folder of the recorded censuses that ship with the project, <model>.json each."""
    return reproductions() / "census"


def collaborations() -> Path:
    """The folder of the recorded collaborations that ship with the project, <model>.json each."""
    return reproductions() / "collaboration"
