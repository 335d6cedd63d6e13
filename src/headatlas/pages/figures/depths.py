"""Draws the depth of the heads of each stage: reported by papers above, measured below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _BAR = 640, 118, 64, 96, 34, 34
BINS = 10


@dataclass(frozen=True)
class DepthPlace:
    """The heads of one type in one model.

    Attributes:
        head: id of the type.
        stage: short name of the stage: KR, ICI, LR or EP.
        depths: layer / last layer of each head, from 0 to 1.
        model: id of the model.
    """

    head: str
    stage: str
    depths: tuple[float, ...]
    model: str = ""

    @property
    def mean(self) -> float:
        """Mean depth of the heads."""
        return sum(self.depths) / len(self.depths)


def mean_depth(places: Sequence[DepthPlace]) -> float | None:
    """Mean depth over types and models, each with the same weight; None if there are none."""
    return sum(place.mean for place in places) / len(places) if places else None


def shares(places: Sequence[DepthPlace]) -> list[float]:
    """The share of heads in each tenth of the depth; every type in every model has the same weight."""
    found = [0.0] * BINS
    for place in places:
        for depth in place.depths:
            found[min(int(depth * BINS), BINS - 1)] += 1 / len(place.depths) / len(places)
    return found


def depths_picture(
    stages: Mapping[str, str], reported: Sequence[DepthPlace], measured: Sequence[DepthPlace], title: str
) -> str:
    """Draw two histograms over relative depth per stage: reported upwards, measured downwards, with their means.

    Args:
        stages: name by short name, in order.
        reported, measured: heads of one type in one model each.
        title: says what the picture shows, for those who cannot see it.

    Returns:
        One <svg> element, coloured by the style sheet's custom properties.
    """
    height = _TOP + len(stages) * _ROW + 30
    parts = [
        f'<svg class="atlas-depths" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for row, (short, name) in enumerate(stages.items()):
        middle = _TOP + row * _ROW + _ROW / 2
        colour = f"var(--atlas-{short.lower()})"
        parts.append(f'<text x="{_LEFT - 12}" y="{middle + 4:g}" text-anchor="end" class="atlas-stagename" '
                     f'fill="{colour}">{escape(_wrapped(name)[0])}</text>')  # fmt: skip
        if rest := _wrapped(name)[1]:
            parts.append(f'<text x="{_LEFT - 12}" y="{middle + 18:g}" text-anchor="end" class="atlas-stagename" '
                         f'fill="{colour}">{escape(rest)}</text>')  # fmt: skip
        for places, up in ((reported, True), (measured, False)):
            parts += _histogram([each for each in places if each.stage == short], middle, up, colour, name)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{middle:g}" y2="{middle:g}" class="atlas-axisline"/>'
        )
    bottom = _TOP + len(stages) * _ROW + 16
    for share, label in ((0.0, "first layer"), (0.5, "half of the depth"), (1.0, "last layer")):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        parts.append(f'<text x="{_x(share):g}" y="{bottom}" text-anchor="{anchor}" class="atlas-axis">{label}</text>')
    parts.append(f'<text x="{_LEFT}" y="16" class="atlas-axis">above each line: papers report; below: we measured; '
                 "tick: mean</text>")  # fmt: skip
    return "".join([*parts, "</svg>"])


def _histogram(places: Sequence[DepthPlace], middle: float, up: bool, colour: str, name: str) -> list[str]:
    voice = "reported" if up else "measured"
    mean = mean_depth(places)
    at = middle - 12 if up else middle + 20
    if mean is None:
        return [f'<text x="{_LEFT + 6}" y="{at:g}" class="atlas-axis">nothing {voice}</text>']
    parts, found = [], shares(places)
    width = (_WIDTH - _RIGHT - _LEFT) / BINS
    for bin, share in enumerate(found):
        if share:
            high = share / max(found) * _BAR
            top = middle - 1 - high if up else middle + 1
            parts.append(
                f'<rect x="{_LEFT + bin * width + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{high:.1f}" '
                f'fill="{colour}" fill-opacity="{0.4 if up else 0.85}"><title>{escape(name)}, {voice}: {share:.0%} of '
                f"heads between {bin / BINS:.0%} and {(bin + 1) / BINS:.0%} of the depth</title></rect>"
            )
    ends = (middle - _BAR - 6, middle - 1) if up else (middle + 1, middle + _BAR + 6)
    parts.append(
        f'<line x1="{_x(mean):.1f}" x2="{_x(mean):.1f}" y1="{ends[0]:g}" y2="{ends[1]:g}" class="atlas-mean"/>'
    )
    parts.append(f'<text x="{_WIDTH - _RIGHT + 6}" y="{at:g}" class="atlas-axis">{mean:.2f} ({len(places)})</text>')
    return parts


def _x(depth: float) -> float:
    return _LEFT + depth * (_WIDTH - _RIGHT - _LEFT)


def _wrapped(name: str) -> tuple[str, str]:
    """A name in two lines."""
    first, _, rest = name.partition(" ")
    return first, rest
