"""Draws a causal test: the effect of the heads found beside the effects of random sets of heads."""

from collections.abc import Sequence
from html import escape

from headatlas.pages.figures.drawing import CELL, FOUND, PLAIN

_WIDTH, _HEIGHT, _SIDE, _MIDDLE, _RADIUS = 420, 74, 12, 30, 2.5


def effects_picture(effect: float, low: float, high: float, others: Sequence[float], title: str) -> str:
    """Draw one dot per random set, stacked if they coincide, and the heads found as a line with its interval.

    Args:
        effect, low, high: effect and interval of the heads found; positive in the claimed direction.
        others: effect of each random set.
        title: what the picture shows, for screen readers.

    Returns:
        One <svg> element, coloured by the style sheet's custom properties; without it, as in a notebook, by its own.
    """
    ends = (*others, low, high, 0.0)
    left, span = min(ends), (max(ends) - min(ends)) or 1.0

    def x(value: float) -> float:
        return _SIDE + (value - left) / span * (_WIDTH - 2 * _SIDE)

    parts = [
        f'<svg class="atlas-effects" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" {PLAIN}><g stroke="{CELL}"><line x1="{_SIDE}" x2="{_WIDTH - _SIDE}" '
        f'y1="{_MIDDLE}" y2="{_MIDDLE}" class="atlas-grid"/></g>'
    ]
    parts += [
        '<g stroke="currentColor" stroke-opacity=".6" stroke-width="4" stroke-linecap="round">',
        f'<path class="atlas-random" d="{_dots([x(other) for other in sorted(others)])}"/>',
        f'</g><g stroke="{FOUND}" stroke-width="2.5">',
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{_MIDDLE}" y2="{_MIDDLE}" class="atlas-interval"/>',
        f'<line x1="{x(effect):.1f}" x2="{x(effect):.1f}" y1="8" y2="{2 * _MIDDLE - 8}" class="atlas-effect"/>',
        "</g>",
        *(
            f'<text x="{x(value):.1f}" y="{_HEIGHT - 2}" text-anchor="{anchor}" class="atlas-axis">{label}</text>'
            for value, anchor, label in _labels(effect, left, left + span)
        ),
        "</svg>",
    ]
    return "".join(parts)


def _dots(places: Sequence[float]) -> str:
    """A path with one zero-length line per dot, drawn round by its caps: a tenth of the size of circles."""
    heights: dict[int, int] = {}
    made = []
    for place in places:
        column = round(place / (2 * _RADIUS))
        above = heights[column] = heights.get(column, -1) + 1
        y = _MIDDLE - (above + 1) // 2 * (-1) ** above * 2 * _RADIUS
        made.append(f"M{column * 2 * _RADIUS:g} {max(3, min(_MIDDLE * 2 - 3, y)):g}h0")
    return "".join(made)


def _labels(effect: float, left: float, right: float) -> list[tuple[float, str, str]]:
    """Labels for the effect, and for those ends of the axis that are not too close to it."""
    room = 0.18 * (right - left)
    made = [
        (effect, "start" if effect - left < room else "end" if right - effect < room else "middle", f"{effect:.3g}")
    ]
    if effect - left >= room:
        made.append((left, "start", f"{left:.3g}"))
    if right - effect >= room:
        made.append((right, "end", f"{right:.3g}"))
    return made
