"""Draws measured and published edges between heads, as inline SVG from plain numbers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

_NODE_W, _NODE_H, _COLUMN, _ROW, _SLOT, _SIDE, _TOP = 124, 40, 206, 52, 20, 10, 44
_BOX_W, _BOX_H, _BOX_GAP, _RANK = 190, 58, 22, 104
_THIN, _THICK = 1.2, 8.0
_FONT = 'font-family="system-ui, sans-serif"'
_PAPER = 'fill="var(--md-default-bg-color, Canvas)"'
# A stage has one colour everywhere; each colour is readable on white without a style sheet.
_STAGES = {
    "KR": "var(--atlas-kr, #1f5fa8)",
    "ICI": "var(--atlas-ici, #0f766e)",
    "LR": "var(--atlas-lr, #b0430b)",
    "EP": "var(--atlas-ep, #86198f)",
}
_VIAS = {
    "Q": "var(--atlas-line-4, #86198f)",
    "K": "var(--atlas-line-1, #1f5fa8)",
    "V": "var(--atlas-line-3, #15803d)",
}
_READS = {"Q": "queries", "K": "keys", "V": "values"}


@dataclass(frozen=True)
class Node:
    """A head: name, layer, its types (the first is its label), and their stage."""

    name: str
    layer: int
    types: tuple[str, ...]
    stage: str


@dataclass(frozen=True)
class Link:
    """A measured edge between two heads, by name.

    Attributes:
        sender, receiver: names of nodes.
        via: the input of the receiver: Q, K or V.
        strength: 0 to 1, drawn as the width of the line.
        stands: True if the effect exceeds those of other heads; else the line is dashed and faint.
        numbers: the measured figures, as text.
    """

    sender: str
    receiver: str
    via: Literal["Q", "K", "V"]
    strength: float
    stands: bool
    numbers: str


@dataclass(frozen=True)
class Part:
    """A type in a published circuit: its reported heads, and whether it was found in the measured model."""

    type: str
    stage: str
    reported: tuple[str, ...]  # heads
    where: str  # model and source
    found: bool


@dataclass(frozen=True)
class Arrow:
    """A published edge between two types; `vias` are the receiver's inputs, if the sources name them."""

    sender: str
    receiver: str
    vias: tuple[str, ...]
    source: str


def measured_picture(nodes: Sequence[Node], links: Sequence[Link], title: str, notes: Sequence[str] = ()) -> str:
    """Draw heads from left to right by layer, with every measured edge.

    Args:
        nodes: heads, with or without edges.
        links: edges between nodes of different layers.
        title: what the picture shows.
        notes: lines below the picture, such as the effect of the widest line.

    Returns:
        One <svg> element; each edge has its numbers as a tooltip, and the description has all numbers.

    Raises:
        ValueError: for a link that does not lead from a node to a node of a later layer.
    """
    layer = {node.name: node.layer for node in nodes}
    for link in links:
        if link.sender not in layer or link.receiver not in layer:
            raise ValueError(f"the edge {link.sender} -> {link.receiver} ends at a head that is not drawn")
        if layer[link.sender] >= layer[link.receiver]:
            raise ValueError(f"the edge {link.sender} -> {link.receiver} does not lead to a later layer")
    placed = _place(nodes, links, layer)
    used = [via for via in _VIAS if any(link.via == via for link in links)]
    body = [_layer_name(x, number) for number, x in placed.columns.items()]
    body += [_link(link, placed, layer) for link in sorted(links, key=lambda link: (link.stands, link.strength))]
    body += [_node(node, placed.columns[node.layer], placed.y[node.name, node.layer]) for node in nodes]
    body += _legend(used, notes, placed.height)
    width = max(
        2 * _SIDE + _NODE_W + max(0, len(placed.columns) - 1) * _COLUMN, 15 + 6.6 * max(map(len, notes), default=0)
    )
    height = placed.height + 20 * (len(notes) + len(used)) + 12
    return _svg("atlas-collaboration", width, height, title, _told(links), body)


def published_picture(parts: Sequence[Part], arrows: Sequence[Arrow], title: str) -> str:
    """Draw the types of a published circuit from top to bottom, with their reported heads.

    Args:
        parts: the types; types not found in the measured model are grey and say so.
        arrows: edges between the types.
        title: what the picture shows.

    Raises:
        ValueError: for an arrow to a type that is not among the parts.
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
    return _svg("atlas-published", width, 2 * _SIDE + (len(rows) - 1) * _RANK + _BOX_H, title, told, body)


def side_by_side(pictures: Mapping[str, str]) -> str:
    """Put pictures with headings side by side if there is room; otherwise each picture scrolls."""
    panels = (
        f'<div style="min-width:0;max-width:100%"><p style="margin:0 0 .4em;font-weight:600">{escape(heading)}</p>'
        f'<div class="atlas-scroll" style="overflow-x:auto" tabindex="0" role="group" '
        f'aria-label="{escape(heading)}">{picture}</div></div>'
        for heading, picture in pictures.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em 2.5em;align-items:flex-start">{"".join(panels)}</div>'


# --- measured ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """The x of each layer, and the y of its heads and of the gaps that lines pass through."""

    columns: Mapping[int, float]
    y: Mapping[tuple[str, int], float]
    height: float


def _place(nodes: Sequence[Node], links: Sequence[Link], layer: Mapping[str, int]) -> _Placed:
    """Order each column by the mean place of its neighbours, in a few sweeps."""
    layers = sorted({node.layer for node in nodes})
    columns: dict[int, list[tuple[str, int]]] = {at: [(n.name, at) for n in nodes if n.layer == at] for at in layers}
    joined: dict[tuple[str, int], dict[tuple[str, int], float]] = {}
    for link in links:
        stops = _stops(link, layers, layer)
        for here, there in itertools.pairwise(stops):
            joined.setdefault(here, {})[there] = joined.setdefault(there, {})[here] = link.strength + 0.05
        for stop in stops[1:-1]:
            if stop not in columns[stop[1]]:
                columns[stop[1]].append(stop)
    sizes = {stop: _ROW if layer[stop[0]] == at else _SLOT for at in layers for stop in columns[at]}
    tallest = max((sum(sizes[stop] for stop in column) for column in columns.values()), default=_ROW)
    y: dict[tuple[str, int], float] = {}
    for sweep in range(12):
        for at in layers if sweep % 2 else reversed(layers):
            column = columns[at]
            if sweep:
                column.sort(key=lambda stop: (_pull(joined.get(stop, {}), y, y[stop]), stop))
            top = _TOP + (tallest - sum(sizes[stop] for stop in column)) / 2
            for stop in column:
                y[stop] = top + sizes[stop] / 2
                top += sizes[stop]
    return _Placed({at: float(_SIDE + number * _COLUMN) for number, at in enumerate(layers)}, y, _TOP + tallest + 4)


def _stops(link: Link, layers: Sequence[int], layer: Mapping[str, int]) -> list[tuple[str, int]]:
    """The sender, a gap in each layer between, and the receiver."""
    first, last = layer[link.sender], layer[link.receiver]
    return [(link.sender, at) for at in layers if first <= at < last] + [(link.receiver, last)]


def _pull(near: Mapping[tuple[str, int], float], y: Mapping[tuple[str, int], float], here: float) -> float:
    found = [(y[other], weight) for other, weight in near.items() if other in y]
    return sum(at * weight for at, weight in found) / sum(weight for _, weight in found) if found else here


def _layer_name(x: float, layer: int) -> str:
    middle = x + _NODE_W / 2
    return (
        f'<text x="{middle:g}" y="22" text-anchor="middle" font-size="12" fill="currentColor" fill-opacity=".75">'
        f'layer {layer}</text><line x1="{x:g}" x2="{x + _NODE_W:g}" y1="32" y2="32" stroke="currentColor" '
        'stroke-opacity=".25"/>'
    )


def _node(node: Node, x: float, middle: float) -> str:
    y = middle - _NODE_H / 2
    colour = _STAGES.get(node.stage, "currentColor")
    more = f" +{len(node.types) - 1}" if len(node.types) > 1 else ""
    label = _short(node.types[0] if node.types else "", 18 - len(more)) + more
    return (
        f"<g><title>{escape(node.name)}: {escape(', '.join(node.types))}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_NODE_W}" height="{_NODE_H}" rx="8" {_PAPER}/>'
        f'<rect x="{x:g}" y="{y:g}" width="{_NODE_W}" height="{_NODE_H}" rx="8" fill="{colour}" fill-opacity=".13" '
        f'stroke="{colour}" stroke-width="1.6"/>'
        f'<text x="{x + _NODE_W / 2:g}" y="{y + 17:g}" text-anchor="middle" font-size="13" font-weight="600" '
        f'fill="currentColor">{escape(node.name)}</text>'
        f'<text x="{x + _NODE_W / 2:g}" y="{y + 32:g}" text-anchor="middle" font-size="11" fill="currentColor">'
        f"{escape(label)}</text></g>"
    )


def _link(link: Link, placed: _Placed, layer: Mapping[str, int]) -> str:
    stops = _stops(link, list(placed.columns), layer)
    x, y = placed.columns[stops[0][1]] + _NODE_W, placed.y[stops[0]]
    line = f"M{x:g} {y:g}"
    for stop in stops[1:]:
        to_x, to_y = placed.columns[stop[1]], placed.y[stop]
        bend = (to_x - x) / 2
        line += f"C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}"
        if stop != stops[-1]:
            line += f"h{_NODE_W:g}"
        x, y = to_x + _NODE_W, to_y
    strength = min(max(link.strength, 0.0), 1.0)
    looks = f'stroke-opacity="{0.4 + 0.45 * strength:.2f}"'
    looks = looks if link.stands else 'stroke-opacity=".35" stroke-dasharray="3 4"'
    return (
        f'<path class="atlas-edge" d="{line}" fill="none" stroke="{_VIAS[link.via]}" '
        f'stroke-width="{_THIN + (_THICK - _THIN) * strength:.2f}" {looks}>'
        f"<title>{escape(_sentence(link))}</title></path>"
    )


def _sentence(link: Link) -> str:
    return f"{link.sender} to the {_READS[link.via]} of {link.receiver}: {link.numbers}"


def _told(links: Sequence[Link]) -> str:
    return "; ".join(map(_sentence, links)) or "no edge"


def _legend(vias: Sequence[str], notes: Sequence[str], y: float) -> list[str]:
    lines = []
    for number, via in enumerate(vias):
        at = y + 12 + 20 * number
        lines.append(
            f'<line x1="{_SIDE}" x2="{_SIDE + 26}" y1="{at:g}" y2="{at:g}" stroke="{_VIAS[via]}" stroke-width="4"/>'
            f'<text x="{_SIDE + 34}" y="{at + 4:g}" font-size="12" fill="currentColor">to {_READS[via]} ({via})</text>'
        )
    for number, note in enumerate(notes, len(vias)):
        lines.append(
            f'<text x="{_SIDE}" y="{y + 16 + 20 * number:g}" font-size="12" fill="currentColor" fill-opacity=".78">'
            f"{escape(note)}</text>"
        )
    return lines


# --- published --------------------------------------------------------------------------------------------------


def _ranks(parts: Sequence[Part], arrows: Sequence[Arrow]) -> dict[str, int]:
    """The largest number of arrows on a way to each type; types in a cycle keep their first rank."""
    ranks = {part.type: 0 for part in parts}
    for _ in parts:
        for arrow in arrows:
            if arrow.sender != arrow.receiver and ranks[arrow.sender] + 1 < len(parts):
                ranks[arrow.receiver] = max(ranks[arrow.receiver], ranks[arrow.sender] + 1)
    used = sorted(set(ranks.values()))
    return {type: used.index(rank) for type, rank in ranks.items()}


def _part(part: Part, x: float, y: float) -> str:
    colour = _STAGES.get(part.stage, "currentColor") if part.found else "currentColor"
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
        f'fill="currentColor"{faint}>{escape(_short(text, most))}</text>'
        for at, size, weight, text, most in lines
    )
    reported = f"reported: {', '.join(part.reported) or 'no heads'}; {part.where}"
    return (
        f"<g><title>{escape(part.type)}{'' if part.found else ', not found in this model'}; {escape(reported)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="8" {_PAPER}/>'
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="8" fill="{colour}" '
        f'fill-opacity="{".1" if part.found else "0"}" stroke="{colour}" {looks}/>{texts}</g>'
    )


def _arrow(arrow: Arrow, places: Mapping[str, tuple[float, float]], ranks: Mapping[str, int], width: float) -> str:
    """Draw an arrow from the lower edge of one box to the upper edge of another, around boxes between them."""
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
    return f"the {' and '.join(_READS[via] for via in vias)} of " if vias else ""


# --- both -------------------------------------------------------------------------------------------------------


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip(" -") + "…"


def _svg(kind: str, width: float, height: float, title: str, description: str, body: Sequence[str]) -> str:
    """Wrap parts in an <svg>. The title is its label, because a <title> would hide the tooltips of its parts."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}" {_FONT}><desc>{escape(description)}</desc>{"".join(body)}</svg>'
    )
