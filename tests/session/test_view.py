"""The page of all patterns of a text: one file that asks for nothing, with the numbers of the session."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headatlas
from headatlas.cli.program import main
from headatlas.lab import OpenModel, record
from headatlas.session import viewing
from headatlas.session.opening import Session

TEXT = "When Mary and John went to the store, John gave a drink to"
HOSTILE = "</script><script>alert(1)</script> <b>&amp;</b> {{ 7 * 7 }} \u202e \x07 café ☃"


@pytest.fixture(scope="module")
def session(specimen: OpenModel) -> Session:
    return headatlas.open(specimen)


def data_of(path: Path) -> dict[str, Any]:
    """The data in a page."""
    text = path.read_text(encoding="utf-8").partition('<script type="application/json" id="data">')[2]
    found: dict[str, Any] = json.loads(text.partition("</script>")[0])
    return found


def weights_of(head: dict[str, Any], count: int) -> np.ndarray:
    """The pattern of a head, as the page has it: [query key]."""
    whole = np.zeros((count, count))
    whole[np.tril_indices(count)] = np.frombuffer(b64decode(head["weights"]), np.uint8) / 100
    return whole


def test_it_holds_the_patterns_of_the_session(session: Session, tmp_path: Path) -> None:
    path = session.view(TEXT, tmp_path / "view.html", "4.5")
    data, attention = data_of(path), session.attention(TEXT)
    assert data["start"] == "L4H5" and data["words"][:3] == ["<|endoftext|>", "When", "Mary"]
    assert [each["head"] for each in data["heads"]] == [str(head) for head in attention.heads]
    for each in data["heads"]:
        assert weights_of(each, 15) == pytest.approx(attention[each["head"]].weights, abs=0.00501)
        names = session.names(each["head"])
        assert each["types"] == {"measured": [label.type for label in names.measured], "reported": []}


def test_it_asks_for_nothing(session: Session, tmp_path: Path) -> None:
    text = session.view(TEXT, tmp_path / "view.html").read_text()
    assert "default-src 'none'" in text and "src=" not in text.replace("default-src", "") and "@import" not in text
    assert "https://" not in text and text.count("http://") == 1, "the name space of SVG only"


def test_hostile_text_stays_text(session: Session, tmp_path: Path) -> None:
    text = session.view(HOSTILE, tmp_path / "view.html").read_text()
    assert text.count("<script") == 2 and "alert(1)</script>" not in text and "49" not in text.partition("<style>")[0]


def test_a_long_text_is_cut_and_says_so(session: Session, tmp_path: Path) -> None:
    path = session.view("the store " * 90, tmp_path / "view.html")
    data = data_of(path)
    assert len(data["words"]) == viewing.MOST_TOKENS == 128 and "only the first 128 are shown" in path.read_text()
    cut = [session.model.vocabulary.prompt("the store " * 90)[:128]]
    expected = record(session.model, cut, ["pattern"], layers=[0])["pattern", "L0H3"][0].numpy()
    assert weights_of(data["heads"][3], 128) == pytest.approx(expected, abs=0.00501)


def test_without_heads_the_page_says_so(session: Session, tmp_path: Path) -> None:
    path = session.without("L1H1").view(TEXT, tmp_path / "view.html")
    assert "Attention of specimen without L1H1</h1>" in path.read_text()


def test_a_model_nobody_knows(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with headatlas.open(tiny("llama")) as session:
        text = session.view(TEXT, tmp_path / "view.html").read_text()
    assert "const known = false, census = null" in text and "Highlight" not in text


@pytest.fixture(scope="module")
def page(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return session.view(TEXT + " " + HOSTILE, tmp_path_factory.mktemp("view") / "view.html", "L4H5")


class TestInChromium:
    @pytest.fixture
    def opened(self, browser: Any, page: Path) -> Iterator[tuple[Any, list[str]]]:
        troubles: list[str] = []
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.on("request", lambda request: troubles.append(request.url))
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        tab.goto(page.as_uri())
        yield tab, troubles
        tab.close()

    def test_no_request_and_no_error(self, opened: tuple[Any, list[str]], page: Path) -> None:
        tab, troubles = opened
        tab.click("#L5H6")
        assert troubles == [page.as_uri()] and tab.title().startswith("Attention of specimen: <|endoftext|>When Mary")

    def test_a_click_and_the_keys_choose_a_head(self, opened: tuple[Any, list[str]], session: Session) -> None:
        tab, _ = opened
        assert tab.inner_text("#name") == "L4H5" and "induction 0.9" in tab.inner_text("#names")
        tab.click("#L2H6")
        assert tab.inner_text("#name") == "L2H6" and tab.evaluate("location.hash") == "#L2H6"
        for key, expected in (
            ("ArrowRight", "L2H7"),
            ("ArrowRight", "L2H7"),
            ("ArrowDown", "L3H7"),
            ("ArrowUp", "L2H7"),
        ):
            tab.keyboard.press(key)
            assert tab.inner_text("#name") == expected and tab.evaluate("document.activeElement.id") == expected
            assert tab.get_attribute(f"#{expected}", "aria-pressed") == "true"
            assert tab.locator(".grid [aria-pressed=true]").count() == 1

    def test_hovering_reads_the_weights(self, opened: tuple[Any, list[str]], session: Session) -> None:
        tab, _ = opened
        tab.locator(".token").nth(14).hover()
        said = tab.inner_text("#said")
        weight = session.attention(TEXT)["L4H5"].weights[14, 2]
        assert said.startswith("“ to” (14) attends to “ Mary” (2)") and f"(2): {weight:.2f}" in said
        box = tab.locator("#picture").bounding_box()
        side = tab.evaluate("side")
        tab.mouse.move(box["x"] + side + 2.5 * 18, box["y"] + side + 9.5 * 18)
        weight = session.attention(TEXT)["L4H5"].weights[9, 2]
        assert tab.inner_text("#said") == f"“,” (9) attends to “ Mary” (2): {weight:.2f}"

    def test_the_keys_go_from_token_to_token(self, opened: tuple[Any, list[str]]) -> None:
        tab, _ = opened
        tab.locator(".token").nth(3).focus()
        tab.keyboard.press("ArrowLeft")
        assert tab.inner_text("#said").startswith("“ Mary” (2)")

    def test_a_type_is_highlighted(self, opened: tuple[Any, list[str]], session: Session) -> None:
        tab, _ = opened
        tab.select_option("#type", "measured induction")
        bright = tab.eval_on_selector_all(".grid button:not(.off)", "all => all.map(each => each.id)")
        every = session.model.anatomy.all_heads
        assert bright == [str(h) for h in every if "induction" in [n.type for n in session.names(h).measured]]

    def test_a_thumbnail_shows_the_pattern(self, opened: tuple[Any, list[str]], session: Session) -> None:
        tab, _ = opened
        drawn = tab.evaluate(
            "[...document.querySelector('#L4H5 canvas').getContext('2d').getImageData(0, 14, 15, 1).data]"
            ".filter((_, place) => place % 4 === 3)"
        )
        assert int(np.argmax(drawn)) == int(session.attention(TEXT)["L4H5"].weights[14].argmax())

    @pytest.mark.parametrize("width, scheme", [(1400, "light"), (390, "dark")])
    def test_axe_finds_nothing_and_nothing_sticks_out(self, browser: Any, page: Path, width: int, scheme: str) -> None:
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        found = axe.Axe().run(tab).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []
        tab.close()


class TestCommand:
    def test_it_says_what_it_wrote(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        path = tmp_path / "view.html"
        assert main(["view", "specimen", "the store " * 90, "--head", "L4H5", "--out", str(path)]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB): 48 heads, 128 tokens"
        assert second == "the text has 182 tokens, of which the file shows the first 128; shorten it to see others"
        assert data_of(path)["start"] == "L4H5"

    def test_json(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        path = tmp_path / "view.html"
        assert main(["view", "specimen", TEXT, "--out", str(path), "--json"]) == 0
        size = path.stat().st_size
        expected = {"file": str(path), "bytes": size, "heads": 48, "tokens": 15, "shown": 15}
        assert json.loads(capsys.readouterr().out) == expected

    @pytest.mark.parametrize(
        "words, said",
        [
            (["specimen", " "], "the text is empty"),
            (["specimen", TEXT, "--head", "5"], "'5' is not a head"),
            (["specimen", TEXT, "--head", "L9H9"], "L9H9 is not in specimen"),
            (["specimen", TEXT, "--out", "no/such/folder/view.html"], "no/such/folder"),
            (["no-such-model", TEXT], "no-such-model"),
        ],
    )
    def test_mistakes_are_one_line(
        self,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        words: list[str],
        said: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        place = [] if "--out" in words else ["--out", str(tmp_path / "view.html")]
        assert main(["view", *words, *place]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
