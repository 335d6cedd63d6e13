"""Writes the catalog in formats for other programs."""

import csv
import io
import json
from typing import Literal

from headatlas.catalog.catalog import Catalog

Format = Literal["json", "jsonl", "csv", "bibtex"]


def export(catalog: Catalog, format: Format, of: Literal["findings", "heads"] = "findings") -> str:
    """The catalog as text.

    Args:
        format: json has everything; csv and jsonl have one flat row per finding or head type; bibtex has the sources.
        of: the rows of csv and jsonl.
    """
    if format == "json":
        return json.dumps(catalog.to_json(), indent=1, ensure_ascii=False) + "\n"
    if format == "bibtex":
        return catalog.bibtex()
    rows = catalog.findings().rows() if of == "findings" else catalog.heads.rows()
    if format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
