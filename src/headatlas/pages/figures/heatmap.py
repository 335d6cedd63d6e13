"""Draws a model's heads as a heat map, layers x heads, as inline SVG from plain numbers."""

from collections.abc import Collection, Sequence
from html import escape

from headatlas.pages.figures.drawing import CELL, FOUND, PLAIN, WEIGHT

_CELL, _GAP, _LEFT, _TOP = 26, 3, 46, 26
_NOTE = 3  # cells that "no attention" takes


def heatmap(
    scores: Sequence[Sequence[float]],
    found: Collection[tuple[int, int]],
    title: str,
    reported: Collection[tuple[int, int]] = (),
    top: float = 1.0,
) -> str:
    """Draw one square per head, darker for higher scores; outline heads found, and dot heads that papers name.

    Args:
        scores: [layer][head]; values outside 0 to `top` are clipped. Layers may have different numbers of heads; a
            layer without attention is labelled.
        found, reported: (layer, head) pairs.
        title: what the picture shows, for screen readers.
        top: the score of the darkest square.

    Returns:
        One <svg> element, coloured by the style sheet's custom properties, so that it follows light and dark. Without
        that style sheet, in a notebook, its own colours are readable on white and on black.
    """
    layers, most = len(scores), max(map(len, scores))
    heads = most if all(scores) else max(most, _NOTE)
    places = [(layer, head) for layer, row in enumerate(scores) for head in range(len(row))]
    width = _LEFT + heads * (_CELL + _GAP) + 4
    height = _TOP + layers * (_CELL + _GAP) + 4
    parts = [
        f'<svg class="atlas-heatmap" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" {PLAIN}>'
    ]
    cells = "".join(_box(*_corner(*place)) for place in places)
    parts.append(f'<path class="atlas-cell" fill="{CELL}" d="{cells}"/>')
    for head in range(most):
        parts.append(_label(_LEFT + head * (_CELL + _GAP) + _CELL / 2, 16, f"H{head}", "middle"))
    for layer in range(layers):
        parts.append(_label(_LEFT - 10, _corner(layer, 0)[1] + _CELL / 2 + 4, f"L{layer}", "end"))
        if not scores[layer]:
            parts.append(_label(_LEFT, _corner(layer, 0)[1] + _CELL / 2 + 4, "no attention", "start"))
    parts.append(f'<g class="atlas-score" fill="{WEIGHT}">')
    parts += [_square(at, scores[at[0]][at[1]], top, at in found, at in reported) for at in places]
    parts.append("</g>")
    parts.append(f'<g fill="none" stroke="{FOUND}" stroke-width="2.5">')
    parts += [f'<path class="atlas-found" d="{_box(*_corner(*place))}"/>' for place in found]
    parts.append('</g><g fill="#fff" stroke="#111">')
    for place in reported:
        x, y = _corner(*place)
        parts.append(f'<circle cx="{x + _CELL / 2:g}" cy="{y + _CELL / 2:g}" r="3.5" class="atlas-reported"/>')
    return "".join([*parts, "</g></svg>"])


def _corner(layer: int, head: int) -> tuple[int, int]:
    return _LEFT + head * (_CELL + _GAP), _TOP + layer * (_CELL + _GAP)


def _box(x: int, y: int) -> str:
    return f"M{x} {y}h{_CELL}v{_CELL}h-{_CELL}z"


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="atlas-axis">{text}</text>'


def top_of(scores: Sequence[Sequence[float]], threshold: float) -> float:
    """The score of the darkest square: 1 if the largest score is in 0.5 to 1, else that score or the threshold."""
    largest = max(score for row in scores for score in row)
    return 1.0 if 0.5 <= largest <= 1.0 else max(largest, threshold)


def _square(place: tuple[int, int], score: float, top: float, found: bool, reported: bool) -> str:
    notes = [
        f"L{place[0]}H{place[1]}: {score:.{'2f' if abs(score) >= 0.1 else '2g'}}",
        *(["found"] * found),
        *(["named by papers"] * reported),
    ]
    shade = min(max(score / top, 0.0), 1.0)
    box = _box(*_corner(*place))
    return f'<path fill-opacity="{shade:.2f}" d="{box}"><title>{", ".join(notes)}</title></path>'
