"""A published circuit of head types, as inline SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import networkx as nx

from headatlas.pages.figures.drawing import PAPER, READS, STAGES, frame, short

_SIDE, _BOX_W, _BOX_H, _BOX_GAP, _RANK = 10, 190, 58, 22, 104


@dataclass(frozen=True)
class CircuitPart:
    """A type in a published circuit: what is reported of it, and whether it was found in the model at hand."""

    type: str
    stage: str
    reported: tuple[str, ...]  # heads
    where: str  # model and source
    found: bool


@dataclass(frozen=True)
class Arrow:
    """A published edge between two types; via holds what of the receiver, as far as the sources say."""

    sender: str
    receiver: str
    vias: tuple[str, ...]
    source: str


def published_picture(parts: Sequence[CircuitPart], arrows: Sequence[Arrow], title: str) -> str:
    """The types of a published circuit from top to bottom, with the heads that are reported for each.

    Args:
        parts: the types; those not found in the model at hand are grey and say so.
        arrows: between them; one to a type that is no part is a mistake.
        title: says what the picture shows.

    Raises:
        ValueError: for an arrow to a type that is no part.
    """
    known = {part.type for part in parts}
    for arrow in arrows:
        if not {arrow.sender, arrow.receiver} <= known:
            raise ValueError(f"the edge {arrow.sender} -> {arrow.receiver} ends at a type that is not drawn")
    ranks = _ranks(parts, arrows)
    rows = [[part for part in parts if ranks[part.type] == rank] for rank in range(max(ranks.values(), default=0) + 1)]
    width = 2 * _SIDE + max(len(row) for row in rows) * (_BOX_W + _BOX_GAP) - _BOX_GAP + 44
    places = {}
    for rank, row in enumerate(rows):
        left = (width - len(row) * (_BOX_W + _BOX_GAP) + _BOX_GAP) / 2
        for number, part in enumerate(row):
            places[part.type] = left + number * (_BOX_W + _BOX_GAP), _SIDE + rank * _RANK
    body = [_arrow(arrow, places, ranks, width) for arrow in arrows]
    body += [_part(part, *places[part.type]) for part in parts]
    told = "; ".join(f"{a.sender} to {_into(a.vias)}{a.receiver} ({a.source})" for a in arrows)
    return frame("atlas-published", width, 2 * _SIDE + (len(rows) - 1) * _RANK + _BOX_H, title, told, body)


def _ranks(parts: Sequence[CircuitPart], arrows: Sequence[Arrow]) -> dict[str, int]:
    """How many arrows lead to each type at most; types in a circle of arrows share a rank."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(part.type for part in parts)
    graph.add_edges_from((arrow.sender, arrow.receiver) for arrow in arrows)
    circles = nx.condensation(graph)
    ranks = enumerate(nx.topological_generations(circles))
    return {type: rank for rank, row in ranks for each in row for type in circles.nodes[each]["members"]}


def _part(part: CircuitPart, x: float, y: float) -> str:
    colour = STAGES.get(part.stage, "currentColor") if part.found else "currentColor"
    looks = 'stroke-width="1.6"' if part.found else 'stroke-opacity=".45" stroke-dasharray="4 3"'
    faint = "" if part.found else ' fill-opacity=".62"'
    heads = " ".join(part.reported[:4]) + (f" +{len(part.reported) - 4}" if len(part.reported) > 4 else "")
    lines = [
        (18, 13, "600", part.type, 22),
        (33, 11, "400", heads or "no heads named", 31),
        (48, 11, "400", part.where if part.found else "not found in this model", 31),
    ]
    texts = "".join(
        f'<text x="{x + _BOX_W / 2:g}" y="{y + at:g}" text-anchor="middle" font-size="{size}" font-weight="{weight}" '
        f'fill="currentColor"{faint}>{escape(short(text, most))}</text>'
        for at, size, weight, text, most in lines
    )
    reported = f"reported: {', '.join(part.reported) or 'no heads'}; {part.where}"
    return (
        f"<g><title>{escape(part.type)}{'' if part.found else ', not found in this model'}; {escape(reported)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="8" {PAPER}/>'
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="8" fill="{colour}" '
        f'fill-opacity="{".1" if part.found else "0"}" stroke="{colour}" {looks}/>{texts}</g>'
    )


def _arrow(arrow: Arrow, places: Mapping[str, tuple[float, float]], ranks: Mapping[str, int], width: float) -> str:
    """From the lower edge of one box to the upper edge of another; past boxes between them along the side."""
    (x, y), (to_x, to_y) = places[arrow.sender], places[arrow.receiver]
    x, y, to_x = x + _BOX_W / 2, y + _BOX_H, to_x + _BOX_W / 2
    down = to_y - y
    if ranks[arrow.receiver] - ranks[arrow.sender] == 1:
        line = f"M{x:g} {y:g}C{x:g} {y + down / 2:g} {to_x:g} {to_y - down / 2:g} {to_x:g} {to_y - 5:g}"
        label_x, label_y = (x + to_x) / 2 + 8, (y + to_y) / 2 + 4
    else:
        right = to_x >= width / 2
        side = width - 8 if right else 8.0
        start, end = (x + 40, to_x + 40) if right else (x - 40, to_x - 40)
        line = f"M{start:g} {y:g}C{side:g} {y + 30:g} {side:g} {to_y - 30:g} {end:g} {to_y - 5:g}"
        label_x, label_y = side + (-22 if right else 4), (y + to_y) / 2 + 4
    label = ", ".join(arrow.vias)
    tip = line.rsplit(" ", 2)[1:]
    tip_x, tip_y = float(tip[0]), float(tip[1])
    return (
        f"<g><title>{escape(f'{arrow.sender} to {_into(arrow.vias)}{arrow.receiver}: {arrow.source}')}</title>"
        f'<path d="{line}" fill="none" stroke="currentColor" stroke-opacity=".55" stroke-width="1.6"/>'
        f'<path d="M{tip_x - 4.5:g} {tip_y - 3:g}L{tip_x:g} {tip_y + 5:g}L{tip_x + 4.5:g} {tip_y - 3:g}Z" '
        'fill="currentColor" fill-opacity=".7"/>'
        f'<text x="{label_x:g}" y="{label_y:g}" font-size="12" font-weight="600" fill="currentColor">'
        f"{escape(label)}</text></g>"
    )


def _into(vias: Sequence[str]) -> str:
    return f"the {' and '.join(READS[via] for via in vias)} of " if vias else ""
