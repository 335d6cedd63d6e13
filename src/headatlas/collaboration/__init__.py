"""Measures edges between the heads found in a model, and compares them with the published circuits.

schema: the JSON of the result. found: the heads of each type, from a model's records. patching: path patching from
senders to receivers, compared with other heads. measuring: all circuits of the catalog, and the graph of all heads
found. drawing: from a result to its figures.
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
    from headatlas.collaboration.schema import CollaborationSettings
    from headatlas.lab import OpenModel, open_model

    chosen = CollaborationSettings.model_validate(measuring.STANDARD.model_dump() | settings)
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
