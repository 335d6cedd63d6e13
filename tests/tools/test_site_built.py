"""The site as it is built: complete, without dead links, light; and in chromium, as its readers meet it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import bibtexparser
import jsonschema
import pytest
import yaml

import build_pages
from browsing import served, tab_on
from headatlas.catalog.exporting import export
from pages.heads import head_page
from places import ROOT
from site_pages import ATLAS, CATALOG, HOSTILE, hostile_atlas

SCREENSHOTS = ROOT / "build" / "screenshots"
KINDS = {"heads": "head", "methods": "method", "benchmarks": "benchmark", "circuits": "circuit", "models": "model"}
MOST = 460_000  # bytes of a page with its styles and scripts (264,000 of the theme, 50,000 of ours); the index apart
VIEWS = {"desktop": (1280, 900), "phone": (375, 740)}
PAGES = ("", "heads/", "heads/induction/", "matrix/", "depths/", "census/", "together/", "specimen/", "glossary/",
         "beyond/", "timeline/", "findings/", "search/?q=induction", "news/", "coverage/", "models/gpt2/",
         "models/llama-2-70b/", "models/specimen/", "models/gpt2/L10H7/",
         "papers/wang2023interpretability/", "cite/", "heads/hostile/")  # fmt: skip


# Pages are laid out alike in both schemes: every test run looks at one of each, `make test-all` at all four.
ALL_VIEWS = [
    pytest.param(view, scheme, marks=() if (view == "phone") == (scheme == "dark") else pytest.mark.slow)
    for view in ("desktop", "phone")
    for scheme in ("light", "dark")
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, with one page more: of an entry that tries everything."""
    folder = tmp_path_factory.mktemp("site")
    pages = folder / "pages"
    shutil.copytree(ROOT / "site", pages, ignore=shutil.ignore_patterns(*build_pages.GENERATED))
    assert build_pages.main(pages) == 0
    bad = hostile_atlas()
    (pages / "heads" / "hostile.md").write_text(head_page(bad, bad.catalog.heads["induction"]), encoding="utf-8")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"docs_dir": str(pages), "site_dir": str(folder / "built")}
    settings["theme"]["custom_dir"] = str(ROOT / settings["theme"]["custom_dir"])
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(folder / "mkdocs.yml")]
    made = subprocess.run(command, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1"}, check=False)
    assert made.returncode == 0, made.stderr
    assert "WARNING" not in made.stderr
    return folder / "built"


# --- as files -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The links, loads and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {str(found[name]) for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.loads.append(str(found["href"]))
        if tag in ("script", "img", "iframe") and found.get("src"):
            self.loads.append(str(found["src"]))


@pytest.fixture(scope="session")
def parsed(built: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in built.rglob("*.html")}


def target(built: Path, page: Path, link: str) -> tuple[Path, str]:
    """The file a link leads to, and the anchor in it."""
    here = f"http://site/{page.relative_to(built).as_posix()}".removesuffix("index.html")
    address, anchor = urldefrag(urljoin(here, link))
    path = built / unquote(urlsplit(address).path).lstrip("/")
    return (path / "index.html" if path.is_dir() else path), unquote(anchor)


def test_every_entity_has_a_page_and_json_that_keeps_to_the_schema(built: Path) -> None:
    index = json.loads((built / "api/v1/index.json").read_text())
    for kind in (*KINDS, "papers"):
        known = CATALOG.references if kind == "papers" else getattr(CATALOG, kind)
        assert {each["id"] for each in index[kind]} == set(known)
        schema = json.loads((built / f"api/v1/schema/{KINDS.get(kind, 'reference')}.json").read_text())
        validator = jsonschema.Draft202012Validator(schema)
        for each in index[kind]:
            assert (built / each["page"] / "index.html").is_file()
            validator.validate(json.loads((built / each["json"]).read_text()))


def test_every_record_is_published_and_keeps_to_the_schema(built: Path) -> None:
    schema = json.loads((built / "api/v1/schema/record.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    files = list((built / "api/v1/records").glob("*/*.json"))
    assert len(files) == len(ATLAS.results)
    for path in files:
        validator.validate(json.loads(path.read_text()))


def test_every_named_head_has_a_page_and_json_that_keeps_to_the_schema(built: Path) -> None:
    schema = json.loads((built / "api/v1/schema/named_head.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    lists = sorted((built / "api/v1/models").glob("*/heads.json"))
    assert {path.parent.name for path in lists} >= {"gpt2", "smollm2-135m-instruct", "specimen"}
    for path in lists:
        for each in json.loads(path.read_text())["heads"]:
            sheet = json.loads((built / each["json"]).read_text())
            assert (sheet["model"], sheet["head"]) == (path.parent.name, each["head"])
            assert [name["type"] for name in sheet["names"]] == each["named_in_papers"]
            assert (built / each["page"] / "index.html").is_file()
            validator.validate(sheet)


def test_no_link_and_no_anchor_is_dead(built: Path, parsed: dict[Path, Page]) -> None:
    dead = []
    for path, page in parsed.items():
        if path.name == "404.html":  # its links begin at the root of wherever the site stands
            continue
        for link in {*page.links, *page.loads}:
            if urlsplit(link).scheme in ("", "file") and not link.startswith("//"):
                file, anchor = target(built, path, link)
                if not file.is_file() or (file.suffix == ".html" and anchor not in parsed[file].anchors):
                    dead.append(f"{path.relative_to(built)}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(built: Path, parsed: dict[Path, Page]) -> None:
    loads = [load for page in parsed.values() for load in page.loads]
    assert loads and not [load for load in loads if urlsplit(load).netloc]
    styles = "".join(path.read_text() for path in built.rglob("*.css"))
    assert "url(http" not in styles and "@import" not in styles


def test_every_page_is_light(built: Path, parsed: dict[Path, Page]) -> None:
    heavy = {}
    for path, page in parsed.items():
        if path.name == "404.html" or path.parent.name == "hostile":  # the second has 1,000 findings
            continue
        files = {target(built, path, load)[0] for load in page.loads if not load.startswith("data:")}
        size = path.stat().st_size + sum(file.stat().st_size for file in files)
        if size > MOST:
            heavy[str(path.relative_to(built))] = size
    assert heavy == {}


def test_the_guide_has_every_type_and_the_feed_every_event(built: Path) -> None:
    feed, guide = (built / "feed.xml").read_text(), (built / "llms.txt").read_text()
    assert all(f"heads/{id}/" in feed and f"heads/{id}.json" in guide for id in CATALOG.heads)
    assert feed.count("<entry>") == len(set(re.findall(r"<id>([^<]+)", feed))) - 1 >= len(CATALOG.heads)


def test_every_page_tells_browsers_of_the_feed(built: Path, parsed: dict[Path, Page]) -> None:
    for path in parsed:
        if path.parent.name == "census" and path.name != "index.html":  # pages of the command line
            continue
        told = re.search(r'<link rel="alternate" type="application/atom\+xml"[^>]* href="([^"]+)"', path.read_text())
        assert told, path
        assert target(built, path, told[1])[0] == built / "feed.xml" or path.name == "404.html"


# --- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def address(built: Path) -> Iterator[str]:
    """The site on this machine's own address."""

    with served(built) as address:
        yield address


@pytest.mark.parametrize(("view", "scheme"), ALL_VIEWS)
def test_pages_fit_their_window(browser: Any, address: str, view: str, scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    width, height = VIEWS[view]
    with tab_on(browser, address, viewport={"width": width, "height": height}, color_scheme=scheme) as tab:
        for page in PAGES:
            tab.goto(address + page)
            name = page.partition("?")[0].strip("/").replace("/", "-") or "home"
            if "hostile" not in page and view == "desktop":
                tab.screenshot(path=SCREENSHOTS / f"{name}-{view}-{scheme}.png", full_page=True)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page


# Boxes that cut what they hold, and words that are broken over two lines. A box that scrolls shows a shadow where there
# is more, which is a picture in its background; parts of a long path or address may be broken.
CUT = """() => {
  const found = [];
  for (const box of document.querySelectorAll("article *, .plain-main *, .md-tabs *")) {
    const style = getComputedStyle(box), place = box.getBoundingClientRect();
    if (place.width < 3 || place.height < 3 || box.closest(".atlas-hidden, svg")) continue;
    if (style.display === "inline" || style.textOverflow === "ellipsis") continue;
    if (box.scrollWidth <= box.clientWidth + 2 || !box.clientWidth || style.overflowX === "visible") continue;
    const sign = style.backgroundImage.includes("gradient") || box.classList.contains("atlas-map-cut");
    if (style.overflowX === "hidden" || !sign) found.push(`${box.tagName}.${box.className}`);
  }
  return found;
}"""
BROKEN = """() => {
  const found = [], range = document.createRange();
  const texts = document.createTreeWalker(document.querySelector("article, .plain-main"), NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode());) {
    if (text.parentElement.closest("pre, script, style, code, svg, math, .atlas-hidden")) continue;
    for (const word of text.data.matchAll(/(?<![^\\s(])[A-Za-z]{2,}(?![^\\s.,;:)])/g)) {
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const tops = [...range.getClientRects()].filter((part) => part.width > 0.5).map((part) => Math.round(part.top));
      if (new Set(tops).size > 1) found.push(word[0]);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_cut_without_a_sign_and_no_word_is_broken(browser: Any, address: str, width: int) -> None:
    faults = {}
    with tab_on(browser, address, viewport={"width": width, "height": 900}) as tab:
        for page in PAGES:
            if "hostile" in page:
                continue
            tab.goto(address + page)
            if found := tab.evaluate(CUT) + tab.evaluate(BROKEN):
                faults[page] = found
    assert faults == {}


def test_a_head_is_two_clicks_or_one_search_from_home(browser: Any, address: str) -> None:
    with tab_on(browser, address, viewport={"width": 1400, "height": 900}) as tab:
        tab.goto(address)
        tab.locator("article").get_by_role("link", name="GPT-2 small", exact=True).first.click()
        tab.wait_for_url("**/models/gpt2/")
        tab.locator('.atlas-map-grid a[href$="L10H7/"]').click()
        tab.wait_for_url("**/models/gpt2/L10H7/")
        assert "copy suppression head" in tab.locator("main").inner_text()


def test_every_page_of_the_menu_can_be_seen_in_it(browser: Any, address: str) -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    with tab_on(browser, address, viewport={"width": 1400, "height": 900}) as tab:
        tab.goto(address)
        tabs = [label.strip() for label in tab.locator(".md-tabs__link").all_inner_texts()]
        assert tabs == [label for entry in menu for label in entry]
        for section in (entry for entry in menu if isinstance(next(iter(entry.values())), list)):
            ((label, pages),) = section.items()
            tab.locator(".md-tabs__link", has_text=label).click()
            seen = tab.locator(".md-nav--primary .md-nav__link:visible").all_inner_texts()
            wanted = [name for page in pages for name in page]
            assert set(wanted) <= {each.strip() for each in seen}, label


def test_the_bar_copies_the_address_and_an_entry_to_cite(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "heads/induction/")
        tab.get_by_role("button", name="Copy link").click()
        assert tab.evaluate("navigator.clipboard.readText()") == address + "heads/induction/"
        tab.get_by_role("button", name="Copy BibTeX").click()
        copied = tab.evaluate("navigator.clipboard.readText()")
        (entry,) = bibtexparser.parse_string(copied).entries
        assert entry.fields_dict["title"].value == "Induction head"
        assert address + "heads/induction/" in entry.fields_dict["howpublished"].value
        version = tab.evaluate("window.headatlas.version")
        assert (
            version in entry.fields_dict["note"].value and f"data {version}" in tab.locator(".atlas-bar").inner_text()
        )


def test_the_table_filters_sorts_and_comes_back(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "heads/")
        tab.get_by_label("Stage").select_option("LR")
        shown = tab.locator("#atlas-types tbody tr:visible")
        wanted = [head for head in CATALOG.heads.values() if head.stage == "latent-reasoning"]
        assert shown.count() == len(wanted)
        assert tab.locator("form output").inner_text() == f"{len(wanted)} of {len(CATALOG.heads)}"
        tab.get_by_role("button", name="evidence").click()
        order = ["established", "supported", "contested", "single-source"]
        said = shown.locator("td:nth-child(3)").all_inner_texts()
        assert said == sorted((head.status for head in wanted), key=order.index) and len(set(said)) > 1
        tab.get_by_role("button", name="evidence").click()
        assert shown.locator("td:nth-child(3)").all_inner_texts() == said[::-1]
        tab.get_by_label("Name or text").fill("repeated zzz")
        assert shown.count() == 0
        tab.get_by_label("Name or text").fill("")
        shown.first.locator("a").first.click()
        tab.wait_for_url("**/heads/*/")
        tab.go_back()
        tab.wait_for_url("**stage=LR**")
        assert shown.count() == len(wanted)
        assert shown.locator("td:nth-child(3)").all_inner_texts() == said[::-1]


def test_the_taxonomy_leads_to_a_head(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address)
        assert tab.locator(".atlas-taxonomy .atlas-pill").count() == len(CATALOG.heads)
        tab.locator(".atlas-pill", has_text="previous-token").click()
        tab.wait_for_url("**/heads/previous-token/")
        assert tab.locator("h1").inner_text().startswith("Previous-token head")


def test_attention_is_read_by_pointer_and_by_keys(browser: Any, address: str, built: Path) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "heads/induction/")
        figure = tab.locator("[data-atlas-attention]")
        weights = json.loads(figure.locator("script").inner_text())
        tokens = figure.locator(".atlas-token")
        assert tokens.count() == len(weights)
        last = len(weights) - 1
        for place, how in ((last, "hover"), (last - 1, "ArrowLeft"), (0, "Home"), (1, "ArrowRight"), (last, "End")):
            tokens.nth(place).hover() if how == "hover" else tab.keyboard.press(how)
            if how == "hover":
                tokens.nth(place).focus()
            key, weight = max(weights[place].items(), key=lambda each: each[1])
            said = figure.locator(".atlas-reading").inner_text()
            assert f"(token {place}): {weight:.2f} to " in said and f"(token {key})" in said
            shade = tokens.nth(int(key)).evaluate("token => token.style.getPropertyValue('--weight')")
            assert float(shade) == weight


def test_mathematics_reads_right(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "glossary/")
        formulas = tab.locator("math")
        assert formulas.count() >= 10
        for number in range(formulas.count()):
            box = formulas.nth(number).bounding_box()
            assert box and box["width"] > 5 and box["height"] > 5
        fraction = tab.locator("mfrac").first
        top, bottom = (fraction.locator(f":scope > *:nth-child({n})").bounding_box() for n in (1, 2))
        assert top and bottom and top["y"] + top["height"] <= bottom["y"] + 1
        assert "$" not in tab.locator(".atlas-formula").first.inner_text()


def test_copy_buttons_copy(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "heads/induction/")
        tab.locator("#rerun-it ~ .highlight").first.hover()
        tab.locator("#rerun-it ~ .highlight .md-code__button").first.click()
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == "headatlas run induction\nheadatlas run induction --model gpt2"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "page",
    [
        "",
        "heads/induction/",
        "matrix/",
        "census/",
        "models/gpt2/",
        "findings/",
        "search/?q=induction",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("heads/", "together/")),
    ],
)
def test_axe_finds_nothing(browser: Any, address: str, page: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with tab_on(browser, address, color_scheme=scheme) as tab:
        tab.goto(address + page)
        found = axe.Axe().run(tab).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []


def test_a_page_is_readable_within_a_second(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        times = []
        for _ in range(5):
            tab.goto(address + "heads/induction/")
            times.append(tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
        assert min(times) < 1000


def test_a_hostile_entry_renders_harmlessly(browser: Any, address: str) -> None:
    with tab_on(browser, address, viewport={"width": 375, "height": 740}) as tab:
        tab.goto(address + "heads/hostile/")
        assert tab.evaluate("window.hacked") is None
        assert tab.locator("article img").count() == 0
        seen = " ".join(HOSTILE.replace("\u202e", "").split())
        assert seen in tab.locator(".atlas-lead").inner_text()
        cards = tab.locator(".atlas-finding")
        assert cards.count() == 1000
        assert seen in " ".join(cards.last.text_content().split())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375


# --- search ---------------------------------------------------------------------------------------------------


def results(tab: Any, within: str) -> list[str]:
    """The addresses of the results that are shown, best first."""
    tab.locator(f"{within} [role=option]").first.wait_for()
    return tab.locator(f"{within} [role=option]").evaluate_all("links => links.map(link => link.pathname + link.hash)")


@pytest.mark.parametrize("width", [1400, 390])
def test_search_is_a_key_away_on_every_page(browser: Any, address: str, width: int) -> None:
    with tab_on(browser, address, viewport={"width": width, "height": 800}, color_scheme="dark") as tab:
        tab.goto(address + "verdicts/")
        tab.keyboard.press("/")
        box = tab.get_by_role("combobox", name="Search")
        assert box.evaluate("box => box === document.activeElement") and box.get_attribute("aria-expanded") == "false"
        tab.keyboard.type("needle in a haystack")
        assert results(tab, "dialog")[0] == "/benchmarks/needle-in-a-haystack/"
        first = tab.locator("dialog [role=option]").first
        for key, place in (("", 0), ("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", -1), ("ArrowDown", 0)):
            if key:
                tab.keyboard.press(key)
            chosen = tab.locator("dialog [aria-selected=true]")
            wanted = tab.locator("dialog [role=option]").nth(place).get_attribute("id")
            assert chosen.count() == 1 and chosen.get_attribute("id") == wanted
            assert box.get_attribute("aria-activedescendant") == wanted
        assert first.evaluate("line => line.offsetHeight") <= 30  # one line
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        assert axe.Axe().run(tab).response["violations"] == []
        tab.keyboard.press("Escape")
        assert not tab.locator("dialog").is_visible()
        tab.keyboard.press("/")
        box.fill("indction")
        assert results(tab, "dialog")[0] == "/heads/induction/"
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/heads/induction/")


def test_a_head_is_one_search_from_home(browser: Any, address: str, built: Path) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address)
        tab.keyboard.press("/")
        tab.keyboard.type("gpt2 L10H7")  # at once: what is typed before the box is there is not lost
        first = results(tab, "[data-atlas-search]")[0]
        own = (built / "models/gpt2/L10H7/index.html").is_file()
        assert first == ("/models/gpt2/L10H7/" if own else "/models/gpt2/#L10H7")
        said = tab.locator("[role=option]").first.inner_text()
        assert "reported: " in said and "copy suppression" in said
        assert "q=gpt2+L10H7" in tab.url
        shared = tab.url
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/models/gpt2/**")
        tab.goto(shared)
        assert results(tab, "[data-atlas-search]")[0] == first
        tab.get_by_role("combobox").press("Escape")
        assert tab.locator("[role=option]").count() == 0 and "q=" not in tab.url


def test_a_head_s_own_page_has_the_search_too(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "models/gpt2/L10H7/")
        tab.keyboard.press("/")
        tab.keyboard.type("copy suppression")
        assert results(tab, "dialog")[0] == "/heads/copy-suppression/"


def test_every_result_leads_to_a_page(built: Path, parsed: dict[Path, Page]) -> None:
    index = json.loads((built / "api/v1/search.json").read_text())
    links = [row[1] for rows in index["entries"].values() for row in rows]
    links += [f"{index['entries']['type'][type][1]}#{id}" for type, id, _, _ in index["findings"]]
    heads = [(model, head, row[3]) for model, known in index["heads"].items() for head, row in known.items()]
    links += [f"models/{model}/{head}/" if page else f"models/{model}/" for model, head, page in heads]
    home, dead = built / "index.html", []
    for link in links:
        file, anchor = target(built, home, link)
        if not file.is_file() or (file in parsed and anchor not in parsed[file].anchors):
            dead.append(link)
    assert dead == []


# --- findings -------------------------------------------------------------------------------------------------


def test_every_finding_has_an_address_that_shows_it(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        for id in ("induction", "successor"):
            head = CATALOG.heads[id]
            for finding in head.findings:
                tab.goto(f"{address}heads/{id}/#{finding.id}")
                tab.wait_for_function("typeof window.headatlasCopy === 'function'")
                found = tab.locator(f"[id='{finding.id}']")
                assert found.is_visible(), finding.id
                shade = found.evaluate("e => getComputedStyle(e.matches('tr') ? e.cells[0] : e).backgroundColor")
                assert shade not in ("rgba(0, 0, 0, 0)", "transparent"), finding.id
                top = found.evaluate("each => each.getBoundingClientRect().top")
                assert -5 < top < 720, finding.id


def test_a_permalink_and_a_citation_are_copied(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "heads/induction/")
        card = tab.locator("#few-shot-ablation")
        card.locator(".atlas-permalink").click()
        tab.wait_for_function("navigator.clipboard.readText().then(text => text.includes('#few-shot-ablation'))")
        assert tab.url == address + "heads/induction/#few-shot-ablation"
        card.get_by_text("BibTeX").click()
        tab.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('@'))")
        assert "crosbie2025induction" in tab.evaluate("navigator.clipboard.readText()")
        assert tab.url == address + "heads/induction/#few-shot-ablation"


def of_findings(tab: Any) -> tuple[int, int]:
    """How many findings the explorer says that it shows, and how many cards there are."""
    tab.locator(".atlas-explorer").wait_for()
    said = tab.locator(".atlas-tools output").inner_text()
    return int(said.split()[0]), tab.locator(".atlas-explorer .atlas-finding").count()


def counts_of(tab: Any, facet: str) -> dict[str, int]:
    """The values of a facet that can be chosen, with their counts."""
    labels = tab.locator(f"[data-facet={facet}] label:not([hidden])")
    return dict(
        labels.evaluate_all(
            "each => each.map(l => [l.querySelector('input').value, +l.querySelector('b').textContent])"
        )
    )


@pytest.mark.parametrize("width", [1400, 390])
def test_facets_react_and_the_address_keeps_them(browser: Any, address: str, width: int) -> None:
    known = list(CATALOG.findings())
    against = [each for each in known if each.finding.stance == "contradicts"]
    types = {each.head_type.id: 0 for each in against}
    for each in against:
        types[each.head_type.id] += 1
    with tab_on(browser, address, viewport={"width": width, "height": 800}) as tab:
        tab.goto(address + "findings/")
        assert of_findings(tab) == (len(known), 40)
        stance = tab.locator("[data-facet=stance]")
        if width < 900:
            stance.locator("summary").click()
        stance.get_by_label("contradicts").check()
        assert of_findings(tab)[0] == len(against) and "stance=contradicts" in tab.url
        assert counts_of(tab, "type") == types
        assert counts_of(tab, "stance")["supports"] == sum(each.finding.stance == "supports" for each in known)
        some = max(types, key=lambda id: types[id])
        tab.goto(f"{address}findings/?type={some}&stance=contradicts")
        assert of_findings(tab) == (types[some], types[some])
        tab.get_by_role("button", name="remove the filter contradicts").click()
        both = [each for each in known if each.head_type.id == some]
        assert of_findings(tab)[0] == len(both) and "stance" not in tab.url
        tab.get_by_label("Words or a head").fill("L1H1")
        words = [each for each in both if "L1H1" in map(str, each.finding.heads) or "L1H1 " in each.finding.statement]
        assert of_findings(tab)[0] == len(words)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_shown_is_taken_along(browser: Any, address: str, tmp_path: Path) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(f"{address}findings/?type=induction&stance=contradicts&sort=year")
        count, _ = of_findings(tab)
        with tab.expect_download() as download:
            tab.get_by_role("button", name="CSV of these").click()
        download.value.save_as(tmp_path / "findings.csv")
        with (tmp_path / "findings.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        whole = {(row["type"], row["id"]): row for row in csv.DictReader(io.StringIO(export(CATALOG, "csv")))}
        assert len(rows) == count and all(whole[row["type"], row["id"]] == row for row in rows)
        assert {(row["type"], row["stance"]) for row in rows} == {("induction", "contradicts")}
        years = [int(CATALOG.references[row["source"]].year) for row in rows]
        assert years == sorted(years, reverse=True)
        tab.get_by_role("button", name="Copy link").click()
        tab.wait_for_function("navigator.clipboard.readText().then(text => text === location.href)")
        tab.get_by_role("button", name="BibTeX of these").click()
        keys = sorted({row["source"] for row in rows})
        tab.wait_for_function(
            "keys => navigator.clipboard.readText().then(text => keys.every(key => text.includes(`{${key},`)))",
            arg=keys,
        )


def test_a_finding_is_shown_on_arrival_in_the_explorer(browser: Any, address: str) -> None:
    last = CATALOG.findings()[-1]
    with tab_on(browser, address) as tab:
        tab.goto(f"{address}findings/#{last.head_type.id}/{last.finding.id}")
        card = tab.locator(".atlas-here")
        card.wait_for()
        assert last.finding.statement in card.inner_text()
        assert 0 <= card.evaluate("card => card.getBoundingClientRect().top") < 720


def test_the_data_of_the_explorer_is_light(built: Path) -> None:
    assert (built / "findings/index.html").stat().st_size < 40_000
    assert (built / "api/v1/findings.json").stat().st_size < 400_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_no_card_is_cut(browser: Any, address: str, width: int, scheme: str) -> None:
    pages = ("heads/induction/", "heads/name-mover/", "heads/faithfulness/", "findings/?kind=causal", "search/?q=ioi")
    cut = """names => names.flatMap(name => [...document.querySelectorAll(name)])
        .filter(each => each.offsetWidth && each.scrollWidth > each.clientWidth + 1)
        .map(each => each.outerHTML.slice(0, 99))"""
    with tab_on(browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme) as tab:
        for page in pages:
            tab.goto(address + page)
            tab.wait_for_load_state("networkidle")
            tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            named = [".atlas-finding", ".atlas-verdict-card", ".atlas-facets", ".atlas-tools", ".atlas-runs-table"]
            assert tab.evaluate(cut, named if width < 700 else named[:-1]) == [], page
