"""Draws a training run: when heads appear, and what the model can do by then, as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _SPACE = 720, 190, 44, 150, 24, 46
# The lines of each panel, in the order of the style sheet's colours (--atlas-line-1 …).
HEADS: tuple[str, ...] = ("previous token", "duplicate token", "induction", "name mover")
SKILLS: tuple[str, ...] = ("period 25", "indirect object", "facts", "multiple choice", "few-shot")


def training_picture(steps: Sequence[Mapping[str, Any]], title: str) -> str:
    """Draw the score of every head that ever reaches 0.3, in the colour of its kind; and held-out accuracy below.

    Args:
        steps: steps of a specimen's training.json: tokens, accuracy by family, and scores [layer][head] by kind.
        title: what the picture shows, for screen readers.

    Returns:
        One <svg> element; the axis is tokens seen, logarithmic.
    """
    tokens = [step["tokens"] for step in steps]
    height = _TOP + 2 * _PANEL + _SPACE + 40
    parts = [
        f'<svg class="atlas-training" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    parts += _axes(tokens, _TOP, "score of a head", False)
    ends: list[tuple[float, str, int]] = []
    for colour, kind in enumerate(HEADS, 1):
        lines = {
            f"L{layer}H{head}": [step["heads"][kind][layer][head] for step in steps]
            for layer, row in enumerate(steps[0]["heads"][kind])
            for head in range(len(row))
        }
        risen = {name: values for name, values in lines.items() if max(values) >= 0.3}
        for name, values in sorted(risen.items(), key=lambda each: each[1][-1]):
            parts.append(_line(tokens, values, _TOP, colour, f"{kind} {name}", thin=True))
        if risen:
            last = max(values[-1] for values in risen.values())
            ends.append((last, f"{kind} ({len(risen)})", colour))
    parts += _names(ends, _TOP)
    below = _TOP + _PANEL + _SPACE
    parts += _axes(tokens, below, "held-out accuracy", True)
    ends = []
    for colour, skill in enumerate(SKILLS, 1):
        values = [step["accuracy"][skill] for step in steps]
        parts.append(_line(tokens, values, below, colour, skill, thin=False))
        ends.append((values[-1], "random spans" if skill == "period 25" else skill, colour))
    parts += _names(ends, below)
    return "".join([*parts, "</svg>"])


def _x(tokens: float, all_tokens: Sequence[float]) -> float:
    low, high = math.log10(all_tokens[0]), math.log10(all_tokens[-1])
    return _LEFT + (math.log10(tokens) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return top + (1 - min(max(value, 0.0), 1.0)) * _PANEL


def _axes(tokens: Sequence[float], top: float, name: str, labelled: bool) -> list[str]:
    right = _WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="{top - 8}" class="atlas-axis">{name}</text>']
    for value in (0.0, 0.5, 1.0):
        y = _y(value, top)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:g}" y2="{y:g}" class="atlas-grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end" class="atlas-axis">{value:g}</text>')
    first, last = math.ceil(math.log10(tokens[0])), math.floor(math.log10(tokens[-1]))
    for power in range(first, last + 1):
        x = _x(10.0**power, tokens)
        parts.append(f'<line x1="{x:g}" x2="{x:g}" y1="{top}" y2="{top + _PANEL}" class="atlas-grid"/>')
        if labelled:
            words = {5: "100,000", 6: "1 million", 7: "10 million", 8: "100 million"}.get(power, f"1e{power}")
            parts.append(
                f'<text x="{x:g}" y="{top + _PANEL + 18}" text-anchor="middle" class="atlas-axis">{words} tokens</text>'
            )
    return parts


def _line(tokens: Sequence[float], values: Sequence[float], top: float, colour: int, name: str, thin: bool) -> str:
    points = " ".join(f"{_x(t, tokens):.1f},{_y(value, top):.1f}" for t, value in zip(tokens, values, strict=True))
    width = 1.2 if thin else 2
    return (
        f'<polyline points="{points}" fill="none" stroke="var(--atlas-line-{colour})" stroke-width="{width}">'
        f"<title>{escape(name)}</title></polyline>"
    )


def _names(ends: Sequence[tuple[float, str, int]], top: float) -> list[str]:
    """Names at the ends of the lines, pushed apart if they would overlap."""
    parts = []
    place = -math.inf
    for value, name, colour in sorted(ends, key=lambda each: -each[0]):
        place = max(place + 15, _y(value, top) + 4)
        parts.append(
            f'<text x="{_WIDTH - _RIGHT + 8}" y="{place:g}" class="atlas-name" fill="var(--atlas-line-{colour})">'
            f"{escape(name)}</text>"
        )
    return parts
