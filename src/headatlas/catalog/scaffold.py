"""Writes a new head type from the two commented templates beside this file."""

import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

from headatlas import locations
from headatlas.catalog.loading import reproductions_of
from headatlas.errors import HeadatlasError

ENTRY = Path(__file__).with_name("template.yaml")
SCRIPT = Path(__file__).with_name("template.py.txt")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Started(NamedTuple):
    """The files of a new head type."""

    entry: Path
    script: Path


def new(id: str, folder: Path | None = None) -> Started:
    """Write heads/<id>.yaml into the catalog, or into the one in `folder`, and <id>.py into its reproductions.

    Raises:
        HeadatlasError: for an invalid id, an existing id, or a folder that cannot be written.
    """
    if not _ID.fullmatch(id) or len(id) > 60:
        raise HeadatlasError(f"{id!r} is not an id; use lower-case words joined by hyphens, such as quotation-mark")
    if folder is None and not locations.is_checkout():
        raise HeadatlasError("this is an installed copy of the catalog; work in a checkout, or give --catalog FOLDER")
    catalog = folder or locations.catalog()
    if not (catalog / "heads").is_dir():
        raise HeadatlasError(f"{catalog / 'heads'} is not a folder; give the folder with taxonomy.yaml and heads/")
    started = Started(catalog / "heads" / f"{id}.yaml", reproductions_of(catalog) / f"{id}.py")
    for path in started:
        if path.exists():
            raise HeadatlasError(f"{path} already exists; edit it, or choose another id")
    for template, path in zip((ENTRY, SCRIPT), started, strict=True):
        _write(path, template.read_text(encoding="utf-8"), id)
    return started


def _write(path: Path, text: str, id: str) -> None:
    for blank, filled in (("ID_HERE", id), ("NAME_HERE", _name(id)), ("DAY_HERE", date.today().isoformat())):
        text = text.replace(blank, filled)
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise HeadatlasError(f"cannot write {path} ({error.strerror}); check the folder's permissions") from error


def _name(id: str) -> str:
    return f"{id[0].upper()}{id[1:]} head"
