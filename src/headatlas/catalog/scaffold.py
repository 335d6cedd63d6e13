"""Writes a new head type from the commented template beside this file."""

import re
from datetime import date
from pathlib import Path

from headatlas import locations
from headatlas.errors import HeadatlasError

TEMPLATE = Path(__file__).with_name("template.yaml")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def new(id: str, folder: Path | None = None) -> Path:
    """Write heads/<id>.yaml into the catalog, or into the one in `folder`; returns the path.

    Raises:
        HeadatlasError: for an invalid id, an existing id, or a folder that cannot be written.
    """
    if not _ID.fullmatch(id) or len(id) > 60:
        raise HeadatlasError(f"{id!r} is not an id; use lower-case words joined by hyphens, such as quotation-mark")
    if folder is None and not locations.is_checkout():
        raise HeadatlasError("this is an installed copy of the catalog; work in a checkout, or give --catalog FOLDER")
    heads = (folder or locations.catalog()) / "heads"
    if not heads.is_dir():
        raise HeadatlasError(f"{heads} is not a folder; give the folder that holds taxonomy.yaml and heads/")
    path = heads / f"{id}.yaml"
    text = TEMPLATE.read_text(encoding="utf-8")
    for blank, filled in (("ID_HERE", id), ("NAME_HERE", _name(id)), ("DAY_HERE", date.today().isoformat())):
        text = text.replace(blank, filled)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise HeadatlasError(f"{path} already exists; edit it, or choose another id") from None
    except OSError as error:
        raise HeadatlasError(f"cannot write {path} ({error.strerror}); check the folder's permissions") from error
    return path


def _name(id: str) -> str:
    return f"{id[0].upper()}{id[1:]} head"
