"""A picture of a model's heads: layers x heads, one square each, as inline SVG from plain numbers."""

from collections.abc import Collection, Sequence
from html import escape

_CELL, _GAP, _LEFT, _TOP = 26, 3, 46, 26


def heatmap(
    scores: Sequence[Sequence[float]],
    found: Collection[tuple[int, int]],
    title: str,
    reported: Collection[tuple[int, int]] = (),
    top: float = 1.0,
) -> str:
    """Squares darken with the score from 0 up; heads found are outlined, heads that papers name carry a dot.

    Args:
        scores: [layer][head]; values outside 0 to `top` are drawn as the nearer end.
        found, reported: (layer, head) pairs.
        title: says what the picture shows, for those who cannot see it.
        top: the score that is drawn darkest.

    Returns:
        One <svg> element, coloured by the style sheet's custom properties, so that it follows light and dark.
    """
    layers, heads = len(scores), len(scores[0])
    width = _LEFT + heads * (_CELL + _GAP) + 4
    height = _TOP + layers * (_CELL + _GAP) + 4
    parts = [
        f'<svg class="atlas-heatmap" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    squares = [
        (_LEFT + head * (_CELL + _GAP), _TOP + layer * (_CELL + _GAP))
        for layer in range(layers)
        for head in range(heads)
    ]
    parts.append(f'<path class="atlas-cell" d="{"".join(f"M{x} {y}h{_CELL}v{_CELL}h-{_CELL}z" for x, y in squares)}"/>')
    for head in range(heads):
        parts.append(_label(_LEFT + head * (_CELL + _GAP) + _CELL / 2, 16, f"H{head}", "middle"))
    for layer in range(layers):
        y = _TOP + layer * (_CELL + _GAP)
        parts.append(_label(_LEFT - 10, y + _CELL / 2 + 4, f"L{layer}", "end"))
        for head in range(heads):
            place = (layer, head)
            x = _LEFT + head * (_CELL + _GAP)
            parts.append(_square(x, y, scores[layer][head], top, place, place in found, place in reported))
    return "".join([*parts, "</svg>"])


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="atlas-axis">{text}</text>'


def top_of(scores: Sequence[Sequence[float]], threshold: float) -> float:
    """The score to draw darkest: 1 where scores are shares that come near it, else the largest, or the threshold."""
    largest = max(score for row in scores for score in row)
    return 1.0 if 0.5 <= largest <= 1.0 else max(largest, threshold)


def _square(x: float, y: float, score: float, top: float, place: tuple[int, int], found: bool, reported: bool) -> str:
    notes = [
        f"L{place[0]}H{place[1]}: {score:.{'2f' if abs(score) >= 0.1 else '2g'}}",
        *(["found"] * found),
        *(["named by papers"] * reported),
    ]
    shade = min(max(score / top, 0.0), 1.0)
    square = (
        f"<g><title>{', '.join(notes)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{_CELL}" height="{_CELL}" class="atlas-score" '
        f'fill-opacity="{shade:.3f}"/>'
    )
    if found:
        square += f'<rect x="{x:g}" y="{y:g}" width="{_CELL}" height="{_CELL}" class="atlas-found"/>'
    if reported:
        square += f'<circle cx="{x + _CELL / 2:g}" cy="{y + _CELL / 2:g}" r="3.5" class="atlas-reported"/>'
    return square + "</g>"
