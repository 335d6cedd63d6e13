"""Draws attention patterns: one head with the words of the text, or all heads as thumbnails.

Both are readable on white and on black without a style sheet, so that they fit a notebook of any theme: words have the
colour of the text around them, and weights one blue, the stronger the more opaque.
"""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from headatlas.pages.figures.drawing import FONT, WEIGHT

Weights = NDArray[np.float32]
MOST_WORDS = 80  # of a picture
_LEAST = 0.005  # a weight that would read 0.00 is not drawn
_CELL, _LETTER, _LETTERS = 18, 6.7, 14
_LEVELS = (0.05, 0.15, 0.3, 0.5, 0.75)  # lower ends of the shades of a thumbnail
_THUMBNAIL, _GAP, _LEFT, _TOP, _MOST_TOKENS = 46, 8, 30, 18, 32


def shown(word: str, most: int = 10_000) -> str:
    """A token as a label: line breaks and tabs as signs, what else does not print as dots, cut to a length."""
    signs = {"\n": "⏎", "\r": "⏎", "\t": "⇥"}
    plain = word.strip(" ") or ("␣" if word else "∅")
    text = "".join(signs.get(sign, sign if sign.isprintable() else "·") for sign in plain)
    return text if len(text) <= most else text[: most - 1] + "…"


def attention_map(words: Sequence[str], weights: Weights, title: str) -> str:
    """Draw one head's pattern: a row for each query, a column for each key, with the words on both sides.

    Args:
        words: of the text, at most `MOST_WORDS`.
        weights: [query key].
        title: what the picture shows, for screen readers.

    Returns:
        One <svg> element; each weight of 0.01 and more has a <title> with its words and its value.
    """
    count = len(words)
    labels = [shown(word, _LETTERS) for word in words]
    side = round(max(map(len, labels)) * _LETTER + 12)
    width, height = side + count * _CELL + 8, side + count * _CELL + 8
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" {FONT} style="max-width:100%;height:auto">',
        '<g font-size="11" fill="currentColor">',
    ]
    for place, label in enumerate(labels):
        middle = side + place * _CELL + _CELL / 2
        parts.append(f'<text x="{side - 6}" y="{middle + 4:g}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<text transform="translate({middle + 4:g} {side - 6}) rotate(-90)">{escape(label)}</text>')
    rows = "".join(
        f"M{side} {side + row * _CELL}h{(row + 1) * _CELL}v{_CELL - 1}h-{(row + 1) * _CELL}z" for row in range(count)
    )
    parts.append(f'</g><path fill="currentColor" fill-opacity=".07" d="{rows}"/><g fill="{WEIGHT}">')
    parts += _weights(words, weights, side)
    return "".join([*parts, "</g></svg>"])


def _weights(words: Sequence[str], weights: Weights, side: int) -> Iterator[str]:
    """A square for each weight that is not 0.00."""
    for query, row in enumerate(weights):
        for key, weight in enumerate(row[: query + 1]):
            if weight >= _LEAST:
                said = f"{quoted(words[query])} ({query}) attends to {quoted(words[key])} ({key}): {weight:.2f}"
                yield (
                    f'<path fill-opacity="{min(weight, 1):.2f}" d="M{side + key * _CELL} {side + query * _CELL}'
                    f'h{_CELL - 1}v{_CELL - 1}h-{_CELL - 1}z"><title>{escape(said)}</title></path>'
                )


def quoted(word: str) -> str:
    """A token in quotes, with its spaces."""
    text = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in word)
    return f"“{text}”"


def thumbnails(patterns: Sequence[Weights], title: str) -> str:
    """Draw the pattern of every head small, a row for each layer.

    Args:
        patterns: for each layer [head query key]; a layer without attention has no heads.
        title: what the picture shows, for screen readers.

    Returns:
        One <svg> element, of the first tokens only where the text is long; each head's name is its <title>.
    """
    most = max(len(layer) for layer in patterns)
    width = _LEFT + most * (_THUMBNAIL + _GAP)
    height = _TOP + len(patterns) * (_THUMBNAIL + _GAP)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" {FONT} style="max-width:100%;height:auto"><g font-size="10" fill="currentColor">'
    ]
    parts += (
        f'<text x="{_LEFT + head * (_THUMBNAIL + _GAP) + _THUMBNAIL / 2:g}" y="12" text-anchor="middle">H{head}</text>'
        for head in range(most)
    )
    for layer, heads in enumerate(patterns):
        top = _TOP + layer * (_THUMBNAIL + _GAP)
        parts.append(f'<text x="{_LEFT - 6}" y="{top + _THUMBNAIL / 2 + 4:g}" text-anchor="end">L{layer}</text>')
        parts += (
            _thumbnail(pattern, f"L{layer}H{head}", _LEFT + head * (_THUMBNAIL + _GAP), top)
            for head, pattern in enumerate(heads)
        )
    return "".join([*parts, "</g></svg>"])


def _thumbnail(pattern: Weights, name: str, left: int, top: int) -> str:
    """One head's pattern: a path for each shade, in units of a token."""
    count = min(len(pattern), _MOST_TOKENS)
    shades: dict[float, list[str]] = {}
    for query, row in enumerate(pattern[:count]):
        for key, weight in enumerate(row[: query + 1]):
            if weight >= _LEVELS[0]:
                shade = max(level for level in _LEVELS if weight >= level)
                shades.setdefault(shade, []).append(f"M{key} {query}h1v1h-1z")
    drawn = "".join(
        f'<path fill="{WEIGHT}" fill-opacity="{min(1, shade + 0.25):g}" d="{"".join(cells)}"/>'
        for shade, cells in sorted(shades.items())
    )
    return (
        f'<g transform="translate({left} {top}) scale({_THUMBNAIL / count:.4g})"><title>{name}</title>'
        f'<path fill-opacity=".08" d="M0 0h{count}v{count}h-{count}z"/>{drawn}</g>'
    )
