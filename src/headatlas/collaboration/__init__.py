"""Collaboration: measured edges between the heads that were found, beside the published circuits.

Rooms: schema (the JSON that comes out), found (the heads of each type, from the records of a model), patching (what a
path carries, against other heads), measuring (the circuits of the catalog and the graph of all found heads), drawing
(from a record to what the figure draws).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headatlas.collaboration.schema import Collaboration
    from headatlas.lab import OpenModel

__all__ = ["measure", "pictures", "recorded"]


def measure(
    model: str | Path | OpenModel = "specimen", folder: Path | None = None, **settings: int | float
) -> Collaboration:
    """Measure the edges between the heads that were found in a model, as `headatlas collaborate` does.

    Args:
        model: one that is open, or whatever `headatlas.lab.open_model` opens.
        folder: of the records that found the heads; by default those that ship.
        settings: what differs from the standard: seed, heads (most of a type), prompts, sets (random sets), others
            (senders to compare with), fdr.

    Raises:
        HeadatlasError: where there are no records of this model, or its weights cannot be compared.
        ValueError: for a setting that does not exist.
    """
    from headatlas import load, locations
    from headatlas.collaboration import measuring
    from headatlas.collaboration.schema import Settings
    from headatlas.lab import OpenModel, open_model

    chosen = Settings.model_validate(measuring.STANDARD.model_dump() | settings)
    with ExitStack() as stack:
        opened = model if isinstance(model, OpenModel) else stack.enter_context(open_model(model))
        return measuring.collaborate(load(), opened, folder or locations.records(), chosen)


def recorded() -> list[Collaboration]:
    """What ships with headatlas, by model."""
    from headatlas import locations
    from headatlas.collaboration import schema

    return [schema.read(path) for path in sorted(locations.collaborations().glob("*.json"))]


def pictures(found: Collaboration) -> dict[str, str]:
    """HTML with SVG by name: each circuit beside what is published, and 'graph', the strongest pairs of all heads."""
    from headatlas import load
    from headatlas.collaboration import drawing

    catalog = load()
    circuits = {circuit.id: drawing.circuit_picture(catalog, found, circuit) for circuit in found.circuits}
    return circuits | {"graph": drawing.graph_picture(catalog, found)}
