"""What pictures of heads at work share: colours, fonts, the frame, texts cut to a width."""

from collections.abc import Sequence
from html import escape

FONT = 'font-family="system-ui, sans-serif"'
# Colours where there is no style sheet, as in a notebook: readable on white and on black.
PLAIN = 'fill="currentColor" font-size="11" font-family="system-ui, sans-serif"'
WEIGHT, FOUND, CELL = "#3b82f6", "#ea580c", "rgba(128, 128, 128, 0.14)"
PAPER = 'fill="var(--md-default-bg-color, Canvas)"'
# A stage has one colour everywhere; each is readable on white where there is no style sheet.
STAGES = {
    "KR": "var(--atlas-kr, #1f5fa8)",
    "ICI": "var(--atlas-ici, #0f766e)",
    "LR": "var(--atlas-lr, #b0430b)",
    "EP": "var(--atlas-ep, #86198f)",
}
READS = {"Q": "queries", "K": "keys", "V": "values"}


def short(text: str, most: int) -> str:
    """Text of limited length; longer text ends in an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip(" -") + "…"


def frame(kind: str, width: float, height: float, title: str, description: str, body: Sequence[str]) -> str:
    """One <svg> element. Its name is its label, as a <title> of the whole would cover those of its parts."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(title)}" {FONT}><desc>{escape(description)}</desc>{"".join(body)}</svg>'
    )
