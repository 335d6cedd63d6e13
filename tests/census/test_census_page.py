"""The page of a census: one file that asks for nothing, that hand, eye and screen reader can use."""

from collections.abc import Iterator
from typing import Any

import pytest

from headatlas.census import page
from headatlas.census.schema import Census
from made_census import CATALOG, cause, census, model_record, part


def everywhere(layers: int, heads: int) -> Census:
    """Every head has three names."""
    model = model_record(layers, heads, kv_heads=heads // 4)
    every = {f"L{layer}H{head}": (0.91, 1e-9) for layer in range(layers) for head in range(heads)}
    names = ("induction", "previous-token", "retrieval")
    return census(model, *(part(name, model, every, tested=cause(["L0H0"], True)) for name in names))


@pytest.fixture(scope="module")
def large() -> Census:
    """1,024 heads."""
    return everywhere(32, 32)


def test_it_asks_for_nothing_and_is_small(large: Census) -> None:
    text = page.page(CATALOG, large)
    assert len(text.encode()) < 2_000_000
    assert "http://" not in text and "https://" not in text and "src=" not in text and "@import" not in text


def test_types_are_linked_where_it_is_told_the_pages_lie(large: Census) -> None:
    assert 'href="https://a.org/heads/induction/"' in page.page(CATALOG, large, "https://a.org")
    assert "heads/induction/" not in page.page(CATALOG, large)


def test_hostile_text_stays_text() -> None:
    model = model_record(1, 2, name="<script>alert(1)</script>")
    text = page.page(CATALOG, census(model, part("induction", model, {"L0H0": (0.9, 1e-9)})))
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page in chromium, opened from disk; a list of what it asked for and complained of."""
    path = tmp_path_factory.mktemp("page") / "census.html"
    path.write_text(page.page(CATALOG, everywhere(6, 8)))
    troubles: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: troubles.append(request.url))
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.goto(path.as_uri())
    yield tab, troubles
    tab.close()


def test_no_request_and_no_error(opened: Any) -> None:
    tab, troubles = opened
    tab.locator("#L3H4").hover()
    assert [each for each in troubles if not each.startswith(("file:", "data:"))] == []


def test_hover_and_keys_say_scores_and_intervals(opened: Any) -> None:
    tab, _ = opened
    tab.locator("#L3H4").hover()
    assert "Induction head (LR): 0.91 [0.81, 1.01]" in tab.locator("#said").inner_text()
    tab.locator("#L0H0").focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#said strong").inner_text() == "L1H1"


def test_filter_and_sort(opened: Any) -> None:
    tab, _ = opened
    tab.locator("#type").select_option("induction")
    assert tab.locator("#labels tbody tr:visible").count() == 48
    tab.locator("#causal").check()
    assert tab.locator("#labels tbody tr:visible").count() == 1
    assert tab.locator(".heads button.off").count() == 47
    tab.locator("#causal").uncheck()
    tab.locator("#type").select_option("")
    tab.locator("#labels th button", has_text="head").first.click()
    tab.locator("#labels th button", has_text="head").first.click()
    assert tab.locator("#labels tbody tr td").first.inner_text() == "L5H7"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab, _ = opened
    tab.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:120]) for each in found] == []
