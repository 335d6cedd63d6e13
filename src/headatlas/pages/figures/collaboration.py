"""Heads at work together, as inline SVG from the numbers that were measured."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import networkx as nx

from headatlas.pages.figures.drawing import PAPER, READS, STAGES, frame, short

_NODE_W, _NODE_H, _COLUMN, _ROW, _SLOT, _SIDE, _TOP = 124, 40, 206, 52, 20, 10, 44
_THIN, _THICK = 1.2, 8.0
_VIAS = {
    "Q": "var(--atlas-line-4, #86198f)",
    "K": "var(--atlas-line-1, #1f5fa8)",
    "V": "var(--atlas-line-3, #15803d)",
}


@dataclass(frozen=True)
class Node:
    """A head: its name, layer, the types it was found to be (the first is written on it), and their stage."""

    name: str
    layer: int
    types: tuple[str, ...]
    stage: str


@dataclass(frozen=True)
class Link:
    """A measured edge between two heads, by name.

    Attributes:
        sender, receiver: names of nodes.
        via: what of the receiver.
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


def measured_picture(nodes: Sequence[Node], links: Sequence[Link], title: str, notes: Sequence[str] = ()) -> str:
    """Heads from left to right by layer, and every measured edge.

    Args:
        nodes: heads; those that no edge touches are drawn too.
        links: between nodes of different layers.
        title: says what the picture shows.
        notes: lines to write below, such as the effect of the widest line.

    Returns:
        One <svg> element; every edge has its numbers as a tooltip, and all of them are in its description.

    Raises:
        ValueError: for a link that does not lead from a node to one of a later layer.
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
    return frame("atlas-collaboration", width, height, title, _told(links), body)


def side_by_side(pictures: Mapping[str, str]) -> str:
    """Pictures by their headings, beside each other where there is room; each scrolls by itself where there is none."""
    panels = (
        f'<div style="min-width:0;max-width:100%"><p style="margin:0 0 .4em;font-weight:600">{escape(heading)}</p>'
        f'<div class="atlas-scroll" style="overflow-x:auto" tabindex="0" role="group" '
        f'aria-label="{escape(heading)}">{picture}</div></div>'
        for heading, picture in pictures.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em 2.5em;align-items:flex-start">{"".join(panels)}</div>'


@dataclass(frozen=True)
class _Placed:
    """The x of each layer, and the middle of what stands there: heads, and gaps through which a sender's lines pass."""

    columns: Mapping[int, float]
    y: Mapping[tuple[str, int], float]
    height: float


def _place(nodes: Sequence[Node], links: Sequence[Link], layer: Mapping[str, int]) -> _Placed:
    """Stack each column in the spectral order of all that is joined, which keeps what is joined on one height."""
    layers = sorted({node.layer for node in nodes})
    joined: nx.Graph[tuple[str, int]] = nx.Graph()
    joined.add_nodes_from((node.name, node.layer) for node in nodes)
    for link in links:
        for here, there in itertools.pairwise(_stops(link, layers, layer)):
            joined.add_edge(here, there, weight=link.strength + 0.05)
    order = nx.spectral_ordering(joined, seed=0) if nodes else []
    columns = {at: [stop for stop in order if stop[1] == at] for at in layers}
    sizes = {stop: _ROW if layer[stop[0]] == stop[1] else _SLOT for stop in order}
    tallest = max((sum(sizes[stop] for stop in column) for column in columns.values()), default=_ROW)
    y: dict[tuple[str, int], float] = {}
    for column in columns.values():
        top = _TOP + (tallest - sum(sizes[stop] for stop in column)) / 2
        for stop in column:
            y[stop] = top + sizes[stop] / 2
            top += sizes[stop]
    return _Placed({at: float(_SIDE + number * _COLUMN) for number, at in enumerate(layers)}, y, _TOP + tallest + 4)


def _stops(link: Link, layers: Sequence[int], layer: Mapping[str, int]) -> list[tuple[str, int]]:
    """The sender, a gap in each layer between, and the receiver."""
    first, last = layer[link.sender], layer[link.receiver]
    return [(link.sender, at) for at in layers if first <= at < last] + [(link.receiver, last)]


def _layer_name(x: float, layer: int) -> str:
    middle = x + _NODE_W / 2
    return (
        f'<text x="{middle:g}" y="22" text-anchor="middle" font-size="12" fill="currentColor" fill-opacity=".75">'
        f'layer {layer}</text><line x1="{x:g}" x2="{x + _NODE_W:g}" y1="32" y2="32" stroke="currentColor" '
        'stroke-opacity=".25"/>'
    )


def _node(node: Node, x: float, middle: float) -> str:
    y = middle - _NODE_H / 2
    colour = STAGES.get(node.stage, "currentColor")
    more = f" +{len(node.types) - 1}" if len(node.types) > 1 else ""
    label = short(node.types[0] if node.types else "", 18 - len(more)) + more
    return (
        f"<g><title>{escape(node.name)}: {escape(', '.join(node.types))}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_NODE_W}" height="{_NODE_H}" rx="8" {PAPER}/>'
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
    return f"{link.sender} to the {READS[link.via]} of {link.receiver}: {link.numbers}"


def _told(links: Sequence[Link]) -> str:
    return "; ".join(map(_sentence, links)) or "no edge"


def _legend(vias: Sequence[str], notes: Sequence[str], y: float) -> list[str]:
    lines = []
    for number, via in enumerate(vias):
        at = y + 12 + 20 * number
        lines.append(
            f'<line x1="{_SIDE}" x2="{_SIDE + 26}" y1="{at:g}" y2="{at:g}" stroke="{_VIAS[via]}" stroke-width="4"/>'
            f'<text x="{_SIDE + 34}" y="{at + 4:g}" font-size="12" fill="currentColor">to {READS[via]} ({via})</text>'
        )
    for number, note in enumerate(notes, len(vias)):
        lines.append(
            f'<text x="{_SIDE}" y="{y + 16 + 20 * number:g}" font-size="12" fill="currentColor" fill-opacity=".78">'
            f"{escape(note)}</text>"
        )
    return lines
