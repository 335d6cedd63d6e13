"""The page of what is found where there is nothing to find: prompts in no order, and weights in no order."""

import json
from pathlib import Path
from typing import Any

from headatlas import locations
from pages.atlas import Atlas
from pages.render import page

# What `tools/chance.py` puts in no order, and how the page calls it.
KINDS: dict[str, str] = {"tokens": "Prompts in no order", "weights": "Weights in no order"}


def chance_page(atlas: Atlas, folder: Path | None = None) -> str:
    """A row per model and kind, and what was selected."""
    folder = folder or locations.reproductions() / "chance"
    rows = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        rows += [_row(path.stem, kind, found[kind]) for kind in KINDS if kind in found]
    return page("chance.md", atlas=atlas, kinds=KINDS, rows=rows)


def _row(model: str, kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one model and one kind of disorder."""
    types = found["types"]
    counted = {id: each for id, each in types.items() if "any_order" not in each}
    apart = {id: each for id, each in types.items() if "any_order" in each and each.get("heads")}
    return {
        "model": model,
        "kind": kind,
        "prompts": found["prompts"],
        "counted": len(counted),
        "scored": sum("heads" in each for each in counted.values()),
        "chosen": {id: each["heads"] for id, each in counted.items() if each.get("heads")},
        "apart": apart,
    }
