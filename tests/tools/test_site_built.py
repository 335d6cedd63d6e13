"""The site as it is built: complete, without dead links, light; and in chromium, as its readers meet it."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import jsonschema
import pytest
import yaml

import build_pages
from pages import api
from pages.heads import head_page
from places import ROOT
from site_pages import ATLAS, CATALOG, HOSTILE, hostile_atlas

SCREENSHOTS = ROOT / "build" / "screenshots"
KINDS = {"heads": "head", "methods": "method", "benchmarks": "benchmark", "circuits": "circuit", "models": "model"}
MOST = 420_000  # bytes of a page with its styles and scripts (280,000 of the theme); search (index, worker) apart
VIEWS = {"desktop": (1280, 900), "phone": (375, 740)}
PAGES = ("", "heads/", "heads/induction/", "matrix/", "depths/", "census/", "together/", "specimen/", "glossary/",
         "beyond/", "timeline/", "models/gpt2/", "models/llama-2-70b/", "models/specimen/", "models/gpt2/L10H7/",
         "heads/hostile/")  # fmt: skip


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


def test_the_feed_has_every_type_and_the_guide_too(built: Path) -> None:
    feed, guide = (built / "feed.xml").read_text(), (built / "llms.txt").read_text()
    assert feed.count("<entry>") == len(CATALOG.heads)
    assert all(f"heads/{id}/" in feed and f"heads/{id}.json" in guide for id in CATALOG.heads)
    assert "http://www.w3.org/2005/Atom" in feed
    assert 'href="https://a.org/heads/induction/"' in api._feed(ATLAS, "https://a.org/")


# --- in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def address(built: Path) -> Iterator[str]:
    """The site on this machine's own address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def tab_on(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """A tab that refuses requests to other places; at its end, nothing may have gone wrong in it."""
    context = browser.new_context(**settings)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
    tab, troubles = context.new_page(), []
    tab.on("request", lambda each: troubles.append(each.url) if not each.url.startswith((address, "data:")) else None)
    tab.on("console", lambda each: troubles.append(each.text) if each.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
    yield tab
    assert troubles == []
    context.close()


@pytest.mark.parametrize(("view", "scheme"), ALL_VIEWS)
def test_pages_fit_their_window(browser: Any, address: str, view: str, scheme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    width, height = VIEWS[view]
    with tab_on(browser, address, viewport={"width": width, "height": height}, color_scheme=scheme) as tab:
        for page in PAGES:
            tab.goto(address + page)
            name = page.strip("/").replace("/", "-") or "home"
            if "hostile" not in page and view == "desktop":
                tab.screenshot(path=SCREENSHOTS / f"{name}-{view}-{scheme}.png", full_page=True)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page


def test_search_finds_the_needle(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address)
        tab.locator(".md-search__input").fill("needle")
        tab.locator(".md-search-result__link").first.wait_for()
        found = tab.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
        assert any("/heads/retrieval/" in link for link in found)
        assert any("/benchmarks/needle-in-a-haystack/" in link for link in found)


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
        assert tab.locator(".atlas-evidence tbody tr").count() == 1000
        assert seen in tab.locator(".atlas-evidence tbody tr").last.inner_text()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
