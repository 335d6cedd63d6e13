"""Draws the picture that a shared link shows: the title beside the map of GPT-2 small, from the catalog.

    python tools/social_card.py     # writes site/assets/card.png; needs chromium

Every square is a head. It has the colour of the stage of its first name in the catalog; grey squares have no name.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

import headatlas
from headatlas.notation import Head

TARGET = Path(__file__).resolve().parent.parent / "site" / "assets" / "card.png"
WIDTH, HEIGHT, SQUARE = 1200, 630, 36
COLOURS = {
    "knowledge-recalling": "#7db5f5",
    "in-context-identification": "#5fd3c6",
    "latent-reasoning": "#fb923c",
    "expression-preparation": "#e39bf0",
}


def stages(catalog: headatlas.Catalog, model: str) -> dict[Head, str]:
    """The stage of the first type, by id, that a finding in support names each head of."""
    found: dict[Head, str] = {}
    for type in catalog.heads.values():
        for finding in type.findings:
            if finding.model == model and finding.stance == "supports":
                for head in finding.heads:
                    found.setdefault(head, type.stage)
    return found


def page(catalog: headatlas.Catalog, model: str = "gpt2") -> str:
    """The card as HTML."""
    known, entry = stages(catalog, model), catalog.models[model]
    layers, heads = entry.layers or 0, entry.heads or 0
    squares = "".join(
        f'<rect x="{head * SQUARE}" y="{(layers - 1 - layer) * SQUARE}" width="{SQUARE - 4}" height="{SQUARE - 4}" '
        f'rx="3" fill="{COLOURS.get(known.get(Head(layer, head), ""), "#34435c")}"/>'
        for layer in range(layers)
        for head in range(heads)
    )
    return (
        '<body style="margin:0;background:#1b2a41;color:#fff;font-family:sans-serif">'
        f'<div style="display:flex;align-items:center;gap:60px;width:{WIDTH - 140}px;height:{HEIGHT}px;padding:0 70px">'
        f'<svg width="{heads * SQUARE}" height="{layers * SQUARE}">{squares}</svg><div>'
        '<div style="font-size:88px;font-weight:700">headatlas</div>'
        '<div style="font-size:38px;line-height:1.4;margin-top:24px">Attention heads:<br>what is claimed,<br>'
        f"and does it hold up?</div></div></div>"
    )


def main() -> int:
    """Draw it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed; install it and run this again", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.set_content(page(headatlas.load()))
        tab.screenshot(path=TARGET)
        browser.close()
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
