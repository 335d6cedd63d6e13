"""Draws two measurements of every head against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_SIDE, _LEFT, _TOP, _BELOW = 220, 40, 8, 34
_NAMED = 4  # heads


@dataclass(frozen=True)
class Point:
    """A head, and its score by either measurement."""

    head: str
    across: float
    up: float


def scatter_picture(points: Sequence[Point], across: str, up: str, title: str) -> str:
    """Draw a dot per head on equal scales, with the line on which both agree, and name the highest.

    Args:
        points: at least one.
        across, up: what the two axes are.
        title: says what the picture shows, for those who cannot see it.

    Returns:
        One <svg> element, coloured by the style sheet's custom properties.
    """
    top = max(max(point.across, point.up) for point in points) or 1.0
    width, height = _LEFT + _SIDE + 46, _TOP + _SIDE + _BELOW

    def x(value: float) -> float:
        return _LEFT + _SIDE * value / top

    def y(value: float) -> float:
        return _TOP + _SIDE * (1 - value / top)

    parts = [
        f'<svg class="atlas-scatter" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<path d="M{_LEFT} {_TOP}V{_TOP + _SIDE}H{_LEFT + _SIDE}" class="atlas-axisline" fill="none"/>',
        f'<path d="M{x(0):g} {y(0):g}L{x(top):g} {y(top):g}" class="atlas-axisline" stroke-dasharray="3 3"/>',
    ]
    for point in points:
        place = f'cx="{x(point.across):.1f}" cy="{y(point.up):.1f}"'
        parts.append(
            f'<circle {place} r="3" fill="var(--atlas-lr)" fill-opacity=".7"><title>{escape(point.head)}: '
            f"{point.across:.3g} {escape(across)}, {point.up:.3g} {escape(up)}</title></circle>"
        )
    for point in sorted(points, key=lambda each: -each.across)[:_NAMED]:
        place = f'x="{x(point.across) + 6:.1f}" y="{y(point.up) + 4:.1f}"'
        parts.append(f'<text {place} class="atlas-axis">{escape(point.head)}</text>')
    for value in (0.0, top):
        said = f"{value:.2g}"
        parts += [
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:g}" text-anchor="end" class="atlas-axis">{said}</text>',
            f'<text x="{x(value):g}" y="{_TOP + _SIDE + 15}" text-anchor="middle" class="atlas-axis">{said}</text>',
        ]
    middle, half = _TOP + _SIDE / 2, _LEFT + _SIDE / 2
    parts.append(
        f'<text x="{half}" y="{height - 4}" text-anchor="middle" class="atlas-axis">{escape(across)}</text>'
        f'<text x="12" y="{middle:g}" text-anchor="middle" transform="rotate(-90 12 {middle:g})" class="atlas-axis">'
        f"{escape(up)}</text>"
    )
    return "".join([*parts, "</svg>"])
