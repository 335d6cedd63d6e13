"""Paths of the catalog, the reproductions and the records, in a checkout or in the wheel; and of the user's cache."""

import os
import sys
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


def cache() -> Path:
    """The user's cache folder of headatlas: $HEADATLAS_CACHE, or the usual place of the operating system.

    That is $XDG_CACHE_HOME/headatlas or ~/.cache/headatlas, on macOS ~/Library/Caches/headatlas, and on Windows
    %LOCALAPPDATA%\\headatlas\\Cache. Deleting it loses nothing that headatlas cannot make or fetch again.
    """
    if own := os.environ.get("HEADATLAS_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "headatlas" / "Cache"
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the standard says to ignore a relative path
        return shared / "headatlas"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "headatlas"
