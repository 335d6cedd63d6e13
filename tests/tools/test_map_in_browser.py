"""The map of a model and the pages of its heads in chromium: keys, choices, addresses, small windows, no scripts."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_site
from browsing import served, tab_on
from headatlas.notation import Head
from pages import map_view, named_heads
from pages.atlas import Atlas
from pages.maps import ModelMap, model_maps
from pages.render import page
from places import ROOT
from site_pages import ATLAS, CATALOG

MAPS = model_maps(CATALOG, ATLAS.results, [])
SCREENSHOTS = ROOT / "build" / "screenshots"
DESKTOP, PHONE = {"width": 1400, "height": 1000}, {"width": 375, "height": 812}
SHELL = """<!doctype html>
<html lang="en" data-md-color-scheme="default"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="../../assets/plain.css"><link rel="stylesheet" href="../../assets/atlas.css">
<script src="../../assets/plain.js" data-root="../../"></script></head>
<body><header><button data-plain-scheme hidden></button></header>
<main class="md-typeset plain-main"><h1>{title}</h1><h2 id="map">Map</h2>{map}</main></body></html>"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Maps of GPT-2, of a model of 80 x 64 heads and of the small catalog's model, and the pages of their heads."""
    site = tmp_path_factory.mktemp("maps")
    shutil.copytree(ROOT / "site" / "assets", site / "assets")
    (site / "assets" / "images").mkdir(exist_ok=True)
    (site / "assets" / "images" / "favicon.png").touch()
    small = small_site.atlas(tmp_path_factory.mktemp("small"))
    census = small_site.tiny_census()
    _write(site, ATLAS, {id: MAPS[id] for id in ("gpt2", "llama-2-70b", "smollm2-135m-instruct")}, [])
    _write(site, small, model_maps(small.catalog, [], [census]), [census])

    with served(site) as address:
        yield address


def _write(site: Path, atlas: Atlas, maps: dict[str, ModelMap], censuses: list[Any]) -> None:
    for id, map in maps.items():
        drawn = page("map.html", atlas=atlas, map=map_view.view(atlas, map), root="../../")
        (site / "models" / id).mkdir(parents=True)
        (site / "models" / id / "index.html").write_text(SHELL.format(title=map.model.name, map=drawn))
    for each in named_heads.head_pages(atlas, maps, censuses):
        path = site / each.place
        path.parent.mkdir()
        path.write_text(named_heads.html(atlas, each))


def lit(tab: Any) -> list[str]:
    """The heads that the choice leaves on the map."""
    found: list[str] = tab.locator(".atlas-map-grid a:not(.atlas-map-off)").evaluate_all("all => all.map(a => a.id)")
    return found


def carriers(map: ModelMap, type: str, kind: str = "") -> list[str]:
    return [
        str(head)
        for head, each in map.named.items()
        for name in each.names
        if name.type.id == type and (not kind or any(finding.kind == kind for finding in name.findings))
    ]


def test_arrow_keys_move_and_enter_opens(browser: Any, address: str) -> None:
    with tab_on(browser, address, viewport=DESKTOP) as tab:
        tab.goto(address + "models/gpt2/#L10H7")
        focused = "document.activeElement.id"
        assert tab.evaluate(focused) == "L10H7"
        said = tab.locator(".atlas-map-said")
        assert "Copy suppression head" in said.inner_text()
        tab.keyboard.press("ArrowLeft")
        assert tab.evaluate(focused) == "L10H6" and tab.url.endswith("#L10H6")
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate(focused) == "L10H6"
        nobody = next(head for head in range(12) if Head(10, head) not in MAPS["gpt2"].named)
        tab.keyboard.press("Home")
        for _ in range(nobody):
            tab.keyboard.press("ArrowRight")
        label = tab.evaluate("document.activeElement.ariaLabel")
        assert label == f"L10H{nobody}: nobody has named this head" == said.inner_text()
        tab.keyboard.press("End")
        tab.keyboard.press("ArrowRight")  # the last head of a layer has none to its right
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowDown")  # the last layer has none below
        assert said.inner_text().startswith("L11H11")
        tab.goto(address + "models/gpt2/?type=induction#L10H7")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/models/gpt2/L10H7/")
        assert tab.locator("h1").inner_text().startswith("L10H7")
        tab.go_back()
        tab.wait_for_url("**?type=induction#L10H7")


def test_tab_reaches_the_map_once(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "models/gpt2/")
        assert tab.locator('.atlas-map-grid [tabindex="0"]').count() == 1
        tab.locator(".atlas-map-box").focus()
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == str(next(iter(MAPS["gpt2"].named)))
        tab.keyboard.press("Tab")
        assert not tab.evaluate("document.activeElement.closest('.atlas-map-grid')")


def test_the_address_keeps_what_is_chosen(browser: Any, address: str) -> None:
    gpt2 = MAPS["gpt2"]
    with tab_on(browser, address) as tab:
        tab.goto(address + "models/gpt2/")
        assert lit(tab) == [str(head) for head in gpt2.named]
        output = tab.locator(".atlas-map output")
        tab.get_by_label("Head type").select_option("induction")
        assert lit(tab) == carriers(gpt2, "induction") and "type=induction" in tab.url
        assert output.inner_text() == f"{len(lit(tab))} of 144 heads"
        shown = tab.locator(".atlas-map-grid a:not(.atlas-map-off) span:visible").all_inner_texts()
        assert set(shown) == {"induction"}
        tab.get_by_label("Evidence of papers").select_option("causal")
        causal = lit(tab)
        assert causal == carriers(gpt2, "induction", "causal") != carriers(gpt2, "induction")
        shared = tab.url
        tab.go_back()
        assert lit(tab) == carriers(gpt2, "induction") and "kind" not in tab.url
        tab.go_back()
        assert len(lit(tab)) == len(gpt2.named) and "type" not in tab.url
        tab.goto(shared)
        assert lit(tab) == causal and tab.get_by_label("Evidence of papers").input_value() == "causal"
        tab.get_by_role("button", name="Show all").click()
        tab.wait_for_function("!location.search")
        assert len(lit(tab)) == len(gpt2.named)
        tab.get_by_label("Stance of papers").select_option("contradicts")
        assert set(lit(tab)) == {
            str(head) for head, each in gpt2.named.items() if any(name.contradicted for name in each.names)
        }
        tab.goto(address + "models/gpt2/?type=no-such-type")
        assert len(lit(tab)) == len(gpt2.named)


def test_reported_and_measured_are_two_marks_of_one_square(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "models/tiny/")
        wanted = {
            "": ["L0H0", "L0H3", "L1H0", "L1H1", "L1H2"],
            "both": ["L1H0"],
            "papers": ["L1H0", "L1H1", "L1H2"],
            "ours": ["L0H0", "L0H3"],
        }
        for who, heads in wanted.items():
            tab.get_by_label("Who says so").select_option(who)
            assert lit(tab) == heads, who
        tab.get_by_label("Head type").select_option("induction")
        for who, heads in {"papers": ["L1H1", "L1H2"], "both": ["L1H0"], "ours": ["L0H3"]}.items():
            tab.get_by_label("Who says so").select_option(who)
            assert lit(tab) == heads, who
        tab.get_by_label("Who says so").select_option("both")
        square = tab.locator("#L1H0")
        assert square.locator(".atlas-map-papers > i:visible").count() == 1
        assert square.locator("b > i:visible").count() == 1
        assert "atlas-map-dashed" not in (
            square.get_attribute("class") or ""
        )  # nobody contradicts that it is induction
        tab.get_by_label("Who says so").select_option("")
        tab.get_by_label("Head type").select_option("suppressor")
        assert "atlas-map-dashed" in square.get_attribute("class")
        assert square.locator("b:visible").count() == 0
        tab.goto(address + "models/tiny/?kind=causal")
        assert lit(tab) == ["L1H0"] and square.locator("b:visible").count() == 0  # kinds are of papers


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_cut_without_a_sign(browser: Any, address: str, view: dict[str, int], scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    wide = "e => e.scrollWidth > e.clientWidth + 1"
    with tab_on(browser, address, viewport=view, color_scheme=scheme) as tab:
        for place in ("gpt2", "tiny", "smollm2-135m-instruct", "llama-2-70b", "gpt2/L10H7", "tiny/L1H0"):
            tab.goto(f"{address}models/{place}/")
            name = place.replace("/", "-")
            tab.screenshot(path=SCREENSHOTS / f"map-{name}-{view['width']}-{scheme}.png", full_page=True)
            assert tab.evaluate("document.documentElement.scrollWidth") <= view["width"], place
            boxes = tab.locator(".atlas-wide, .atlas-map-box")
            for number in range(boxes.count()):
                if boxes.nth(number).evaluate(wide):
                    assert "atlas-map-cut" in boxes.nth(number).get_attribute("class"), place
                    assert tab.locator(".atlas-map-more").is_visible()
        tab.goto(f"{address}models/gpt2/")
        assert not tab.locator(".atlas-map-box").evaluate(wide)
        tab.goto(f"{address}models/llama-2-70b/")
        assert tab.locator(".atlas-map-box").evaluate(wide) == (view is PHONE)


def test_squares_of_a_phone_are_large_enough_for_a_finger(browser: Any, address: str) -> None:
    with tab_on(browser, address, viewport=PHONE) as tab:
        tab.goto(f"{address}models/gpt2/")
        box = tab.locator("#L10H7").bounding_box()
        assert box and box["width"] >= 24 and box["height"] >= 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["models/gpt2/", "models/tiny/?who=both", "models/gpt2/L10H7/", "models/tiny/L1H0/"])
def test_axe_finds_nothing(browser: Any, address: str, place: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with tab_on(browser, address, color_scheme=scheme) as tab:
        tab.goto(address + place)
        found = axe.Axe().run(tab).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []


def test_without_scripts_it_is_a_picture_with_links(browser: Any, address: str) -> None:
    with tab_on(browser, address, java_script_enabled=False) as tab:
        tab.goto(address + "models/gpt2/")
        assert not tab.locator(".atlas-map form").is_visible()
        assert tab.locator(".atlas-map-grid a:visible").count() == len(MAPS["gpt2"].named)
        tab.locator("#L10H7").click()
        tab.wait_for_url("**/models/gpt2/L10H7/")
        tab.get_by_role("link", name="L10H6").first.click()
        tab.wait_for_url("**/models/gpt2/L10H6/")


def test_a_head_page_keeps_the_scheme_of_the_theme(browser: Any, address: str) -> None:
    scheme = "document.documentElement.dataset.mdColorScheme"
    with tab_on(browser, address, color_scheme="light") as tab:
        tab.goto(address + "models/gpt2/L10H7/")
        assert tab.evaluate(scheme) == "default"
        tab.get_by_role("button", name="Dark mode").click()
        assert tab.evaluate(scheme) == "slate"
        kept = tab.evaluate("JSON.parse(localStorage.getItem('/.__palette'))")
        assert kept["index"] == 1 and kept["color"]["scheme"] == "slate"
        tab.reload()
        assert tab.evaluate(scheme) == "slate"
