"""Writes catalog/schema/*.json from the pydantic models, for editors and other programs.

    python tools/write_schemas.py

A test fails if a written schema differs from its model.
"""

import json
from pathlib import Path
from typing import Any

from headatlas import locations
from headatlas.catalog import schema
from headatlas.census.schema import Census
from headatlas.collaboration.schema import Collaboration
from headatlas.evidence import records
from pages.sheets import Sheet

SCHEMAS: dict[str, type[Any]] = {
    **{kind.removesuffix("s"): held for kind, held in schema.FOLDERS.items()},
    "taxonomy": schema.Taxonomy,
    **schema.FILES,
    "reference": schema.Reference,
    "record": records.Record,
    "census": Census,
    "collaboration": Collaboration,
    "named_head": Sheet,
}


# Written by programs; the others are read from files that people write.
_OURS = ("record", "census", "collaboration", "named_head", "reference")


def written(name: str) -> str:
    """The JSON Schema of one entity as text."""
    made = SCHEMAS[name].model_json_schema(mode="serialization" if name in _OURS else "validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=1) + "\n"


def main(folder: Path | None = None) -> None:
    """Write all schemas."""
    folder = folder or locations.catalog() / "schema"
    folder.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (folder / f"{name}.json").write_text(written(name), encoding="utf-8")


if __name__ == "__main__":
    main()
