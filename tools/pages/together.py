"""The page of measured edges between heads, beside the published circuits."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from headatlas import locations, specimens
from headatlas.catalog.schema import Circuit
from headatlas.collaboration import drawing, schema
from headatlas.collaboration.schema import Collaboration
from pages.atlas import Atlas
from pages.render import page


def recorded() -> list[Collaboration]:
    """The recorded collaborations, the specimen's first.

    Raises:
        HeadatlasError: if one cannot be read.
    """
    found = [schema.read(path) for path in sorted(locations.collaborations().glob("*.json"))]
    return sorted(found, key=lambda each: each.model.id != specimens.SPECIMEN)


def together_page(atlas: Atlas, measured: Sequence[Collaboration]) -> str:
    """One section per circuit: a picture for the first model with edges, and a table of all models."""
    first = measured[0] if measured else None
    return page(
        "together.md",
        atlas=atlas,
        models=[each.model.id for each in measured],
        graph=Markup(drawing.graph_picture(atlas.catalog, first)) if first else None,
        circuits=[_circuit(atlas, circuit, measured) for circuit in atlas.catalog.circuits.values()],
    )


def _circuit(atlas: Atlas, circuit: Circuit, measured: Sequence[Collaboration]) -> dict[str, Any]:
    drawn, rows, without = None, [], []
    for record in measured:
        for mine in record.circuits:
            if mine.id == circuit.id:
                rows += (found := [_row(record.model.id, edge) for edge in mine.edges if edge.measure and edge.pairs])
                if found:
                    drawn = drawn or drawing.circuit_picture(atlas.catalog, record, mine)
                else:
                    without.append(record.model.id)
    return {"circuit": circuit, "picture": Markup(drawn) if drawn else None, "rows": rows, "without": without}


def _row(model: str, edge: schema.MeasuredEdge) -> dict[str, Any]:
    """A table row of one published edge in one model."""
    through = {"Q": "queries", "K": "keys", "V": "values"}.get(edge.via or "", "")
    stand = sum(pair.patched.stands for pair in edge.pairs)
    said = f"{stand} of {len(edge.pairs)} pairs of heads have more effect than other senders"
    if edge.together and edge.measure and edge.measure.clean:
        share = edge.together.patched.effect / edge.measure.clean
        verb = "more" if edge.together.patched.stands else "not more"
        said += f"; patching all senders at once removes {share:.0%} of the measure, {verb} than random sets do"
    return {"model": model, "sender": edge.sender, "receiver": edge.receiver, "through": through, "said": said}
