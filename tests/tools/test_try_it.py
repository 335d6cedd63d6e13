"""The page on which the specimen runs: equal to the lab, usable by pointer and keys, and recorded patterns that fit."""

import base64
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from pydantic import ValidationError

import record_patterns
from browsing import served, tab_on
from headatlas import specimens
from headatlas.census import reading
from headatlas.lab import OpenModel, edits, intervene, record
from headatlas.notation import Head
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.script import load_script
from pages import try_it
from pages.atlas import by_page
from pages.patterns import FOLDER, RecordedPatterns, recorded_patterns, unpacked
from places import ROOT
from site_pages import ATLAS

CLOSE = 1e-4
SENTENCES = [
    *try_it.EXAMPLES.values(),
    *(text for _, text in record_patterns.TEXTS.values()),
    "Łódź — naïve café ☕ 日本語",
    " ",
]
FOUND = ATLAS.by_place["induction", "specimen"].record.selected
SETS = [[Head(4, 5)], [Head(0, 0), Head(5, 7)], FOUND]


@pytest.fixture(scope="session")
def shipped() -> list[RecordedPatterns]:
    return list(recorded_patterns())


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory, shipped: list[RecordedPatterns]) -> Iterator[str]:
    """The page alone, in the site's theme, on this machine's own address."""
    folder = tmp_path_factory.mktemp("try")
    pages = folder / "pages"
    shutil.copytree(ROOT / "site" / "assets", pages / "assets")
    (pages / "index.md").write_text("# Home\n", encoding="utf-8")
    (pages / "assets" / "version.js").write_text('window.headatlas = {version: "2026.1.1"};\n', encoding="utf-8")
    censuses = [by_page(ATLAS.catalog, each) for each in reading.recorded()]
    try_it.write_try(ATLAS, censuses, shipped, pages / "try")
    (pages / "try" / "index.md").write_text(try_it.try_page(ATLAS, shipped), encoding="utf-8")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings = {name: value for name, value in settings.items() if name not in ("nav", "validation")}
    settings |= {"docs_dir": str(pages), "site_dir": str(folder / "built"), "plugins": []}
    settings["theme"]["custom_dir"] = str(ROOT / settings["theme"]["custom_dir"])
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", str(folder / "mkdocs.yml")]
    subprocess.run(command, check=True, capture_output=True, env={"NO_MKDOCS_2_WARNING": "1"})

    with served(folder / "built") as address:
        yield address


# --- the modules, without the page ----------------------------------------------------------------------------

LOAD = """async () => {
  const at = (name) => new URL(`/assets/try-it/${name}`, location.href).href;
  const file = (name) => fetch(`specimen/${name}`);
  const [{ Tokenizer }, { Model }, { readSafetensors }] =
    await Promise.all(["tokenizer.js", "model.js", "safetensors.js"].map((name) => import(at(name))));
  window.tokenizer = new Tokenizer(await (await file("tokenizer.json")).json());
  window.model = new Model(await (await file("config.json")).json(),
    readSafetensors(await (await file("model.safetensors")).arrayBuffer()));
  window.means = new Float32Array(await (await file("means.bin")).arrayBuffer());
  window.sent = (numbers) => new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([numbers]));
  });
}"""
RUN = """async ([tokens, off, how]) => {
  const before = off.length ? model.run(tokens) : null;
  const { patterns, logits } = model.run(tokens, off, how === "mean" ? means : null, before);
  return [await Promise.all(patterns.map(sent)), await sent(logits)];
}"""
Ran = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # patterns [layer head query key], logits [position vocabulary]
Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def modules(browser: Any, address: str) -> Iterator[Any]:
    """A tab with the modules and the specimen in it."""
    with tab_on(browser, address) as tab:
        tab.goto(address + "try/")
        tab.evaluate(LOAD)
        yield tab


@pytest.fixture(scope="module")
def ran(modules: Any, specimen: OpenModel) -> Run:
    """Runs the specimen in chromium."""

    def numbers(sent: str) -> np.ndarray[Any, Any]:
        return np.frombuffer(base64.b64decode(sent), "<f4")

    def run(tokens: list[int], off: list[Head] | None = None, how: str = "zero") -> Ran:
        patterns, logits = modules.evaluate(RUN, [tokens, [list(each) for each in off or []], how])
        shape = (specimen.anatomy.heads, len(tokens), len(tokens))
        return np.stack([numbers(each).reshape(shape) for each in patterns]), numbers(logits).reshape(len(tokens), -1)

    return run


def strings() -> list[str]:
    """Texts of every kind: written ones, and random ones of letters, digits, signs, spaces and emoji of the world."""
    rng = random.Random(0)
    ranges = [(32, 127), (160, 592), (880, 1424), (1488, 1515), (2304, 2432), (8192, 8304), (12352, 12544)]
    ranges += [(19968, 20200), (127744, 128512), (0x1D7CE, 0x1D800)]
    signs = [chr(code) for first, last in ranges for code in range(first, last)]
    signs += [*" '\t\n\r\u0085\u00a0\u1680\u180e\u200b\u200d\u2028\u2029\u3000\ufeff\ufe0f\u0301" * 20]
    made = ["".join(rng.choices(signs, k=rng.randint(1, 30))) for _ in range(400)]
    words = [
        "don't",
        "WE'LL",
        "x'",
        " 's",
        "a  b",
        "a   ",
        "   a",
        "\n\n a",
        "tab\t\there",
        "12345",
        "½ Ⅷ ٣",
        "👩‍👩‍👧‍👦",
        "e\u0301",
        "",
    ]
    return [
        *SENTENCES,
        *words,
        "word" * 60,
        *made,
        *("".join(rng.choices(" 'abs\n\tl 1\u0085", k=20)) for _ in range(100)),
    ]


def test_the_tokenizer_equals_that_of_transformers(modules: Any, specimen: OpenModel) -> None:
    texts = strings()
    mine = modules.evaluate("(texts) => texts.map((text) => tokenizer.encode(text))", texts)
    wrong = [text for text, ids in zip(texts, mine, strict=True) if tuple(ids) != specimen.vocabulary.encode(text)]
    assert wrong == []


def test_tokens_are_shown_as_text_and_parts_of_characters_as_bytes(modules: Any, specimen: OpenModel) -> None:
    ids = list(range(specimen.vocabulary.size))
    pieces = modules.evaluate("(ids) => ids.map((id) => tokenizer.piece(id))", ids)
    decoded = [specimen.tokenizer.decode([id]) for id in ids]
    parts = [id for id, text in zip(ids, decoded, strict=True) if "\ufffd" in text]
    assert [pieces[id] for id in ids if id not in parts] == [decoded[id] for id in ids if id not in parts]
    assert len(parts) > 100 and all(pieces[id].startswith("\\x") for id in parts)


def test_a_special_token_in_a_text_is_refused_as_in_the_lab(modules: Any, specimen: OpenModel) -> None:
    said = modules.evaluate(
        "() => { try { tokenizer.encode('a <|endoftext|>') } catch (error) { return error.message } }"
    )
    assert "<|endoftext|> is a special token" in said
    with pytest.raises(Exception, match="no tokens"):
        specimen.vocabulary.encode("a <|endoftext|>")


Plain = Callable[..., np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def plain() -> Plain:
    """Logits of plain transformers, with z of some heads replaced by hand: [position vocabulary].

    In double precision, as single precision is itself up to 1e-4 off (on the 59 tokens of the longest of the texts).
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(specimens.folder(), dtype=torch.float64).eval()

    def logits(tokens: list[int], put: dict[Head, torch.Tensor] | None = None) -> np.ndarray[Any, Any]:
        def replacing(layer: int) -> Callable[[torch.nn.Module, tuple[torch.Tensor]], tuple[torch.Tensor]]:
            def hook(_: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
                z = args[0].unflatten(-1, (model.config.n_head, -1)).clone()  # [batch position head d_head]
                for head, value in (put or {}).items():
                    if head.layer == layer:
                        z[:, :, head.head] = value.double()
                return (z.flatten(-2),)

            return hook

        blocks = enumerate(model.transformer.h)
        hooks = [block.attn.c_proj.register_forward_pre_hook(replacing(layer)) for layer, block in blocks]
        with torch.no_grad():
            found: np.ndarray[Any, Any] = model(torch.tensor([tokens])).logits[0].numpy()
        for each in hooks:
            each.remove()
        return found

    return logits


def test_patterns_equal_the_lab_and_logits_plain_transformers(ran: Run, plain: Plain, specimen: OpenModel) -> None:
    assert len(SENTENCES) >= 20
    for text in SENTENCES:
        tokens = list(specimen.vocabulary.prompt(text))
        patterns, logits = ran(tokens)
        assert np.abs(patterns - recorded(specimen, tokens)).max() < CLOSE
        assert np.abs(logits - plain(tokens)).max() < CLOSE


def recorded(specimen: OpenModel, tokens: list[int]) -> np.ndarray[Any, Any]:
    """The patterns that the lab records: [layer head query key]."""
    found = record(specimen, [tokens], ["pattern"])
    return np.stack([found["pattern", layer][0].numpy() for layer in range(specimen.anatomy.layers)])


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_heads_off_equal_the_same_ablation_in_the_lab(ran: Run, plain: Plain, specimen: OpenModel, how: str) -> None:
    """Mean: over the corrupted prompts of the recorded run on induction heads, as that run did."""
    rule = ATLAS.catalog.heads["induction"].rule
    assert rule
    corrupted = [each.corrupted for each in draw(load_script("induction"), rule, specimen, 0).task.prompts]
    lengths = sorted({len(each) for each in corrupted})
    sources = [record(specimen, [each for each in corrupted if len(each) == length], ["z"]) for length in lengths]
    for number, text in enumerate(SENTENCES):
        off, tokens = SETS[number % len(SETS)], list(specimen.vocabulary.prompt(text))
        patterns, logits = ran(tokens, off, how)
        edit = edits.zero("z", off) if how == "zero" else edits.mean("z", off, sources)
        with intervene(specimen, [edit]):
            assert np.abs(patterns - recorded(specimen, tokens)).max() < CLOSE
        z = [torch.cat([each["z", layer][:, 1:].flatten(0, 1) for each in sources]) for layer in range(6)]
        put = {head: z[head.layer][:, head.head].mean(0) * (how == "mean") for head in off}
        assert np.abs(logits - plain(tokens, put)).max() < CLOSE
        assert np.abs(logits - ran(tokens)[1]).max() > 0.01  # the edit did something


# --- the page -------------------------------------------------------------------------------------------------


def ready(tab: Any) -> None:
    """Wait until the page shows what was asked for last."""
    tab.wait_for_function("/ ms\\.|recorded|special|could not/.test(document.getElementById('try-status').textContent)")


def load(tab: Any, address: str, query: str = "") -> None:
    tab.goto(f"{address}try/{query}")
    if not query:
        tab.get_by_role("button", name="Load the specimen").click()
    tab.locator("#try-result").wait_for()
    ready(tab)


def test_nothing_is_loaded_before_it_is_asked_for(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        asked: list[str] = []
        tab.on("request", lambda each: asked.append(each.url))
        tab.goto(address + "try/")
        tab.get_by_role("button", name="two names").wait_for()
        assert not [url for url in asked if "safetensors" in url or "tokenizer.json" in url]
        tab.locator("#try-text").focus()
        tab.locator("#try-result").wait_for()
        assert [url for url in asked if url.endswith("specimen/model.safetensors")]
        assert tab.locator(".try-cell").count() == 48
        assert not tab.locator("#try-load").is_visible()


def test_the_page_is_light_without_the_weights(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        sizes: list[int] = []
        tab.on("response", lambda each: sizes.append(len(each.body())))
        tab.goto(address + "try/", wait_until="networkidle")
        assert 10_000 < sum(sizes) < 400_000


def test_copying_stops_when_the_heads_found_are_off(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        load(tab, address)
        tab.get_by_role("button", name="random words, repeated").click()
        ready(tab)
        right = tab.locator("#try-before li code").first.inner_text()
        assert right == "␣table"
        cell = tab.get_by_role("button", name=str(FOUND[0]), exact=False).first
        assert "Induction head" in (cell.get_attribute("title") or "") or "more" in (cell.get_attribute("title") or "")
        tab.get_by_role("button", name=f"Switch off the {len(FOUND)} induction heads found").click()
        tab.locator("#try-edited").wait_for()
        assert "the right one at 7 of these, with heads off at 0" in tab.locator("#try-copied").inner_text()
        assert right not in tab.locator("#try-changed li code").all_inner_texts()
        assert tab.locator(".try-cell.try-off").count() == len(FOUND)
        tab.get_by_role("button", name="All heads on").click()
        tab.wait_for_function("!document.querySelector('.try-off')")
        assert not tab.locator("#try-edited").is_visible()


def test_an_induction_head_lights_up_on_the_users_own_repetition(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        load(tab, address)
        tab.get_by_role("button", name=str(FOUND[0]), exact=False).first.click()
        typed = " lamp gave seven old lamp gave seven old lamp"
        tab.locator("#try-text").fill(typed)
        shown = "[...document.querySelectorAll('#try-tokens button')].map(token => token.innerText).join('')"
        tab.wait_for_function(f"typed => {shown}.endsWith(typed)", arg=typed.replace(" ", "␣"))
        assert tab.locator("#try-name").inner_text() == str(FOUND[0])
        tokens = tab.locator("#try-tokens button").all_inner_texts()
        place = len(tokens) - 1 - tokens[:-1][::-1].index("␣seven") - 1
        tab.locator("#try-tokens button").nth(place).hover()
        after = tokens.index("␣old")
        said = tab.locator("#try-reading").inner_text()
        assert re.match(rf"From ␣seven \({place}\): (0\.9\d|1\.00) to ␣old \({after}\)", said)


def test_the_address_keeps_text_head_and_heads_off(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        load(tab, address)
        tab.locator("#try-text").fill("The capital of France is")
        tab.get_by_role("button", name="L3H5:").click()
        tab.get_by_role("button", name="Switch this head off").click()
        tab.locator("#try-how").select_option("zero")
        tab.locator("#try-edited").wait_for()
        tab.get_by_role("button", name="Copy link").click()
        tab.locator(".atlas-bar").get_by_text("copied").wait_for()
        link = tab.evaluate("navigator.clipboard.readText()")
        seen = tab.locator("#try-changed").inner_text()
        assert "head=L3H5" in link and "off=L3H5" in link and "how=zero" in link
        load(tab, address, link.removeprefix(f"{address}try/"))
        tab.locator("#try-edited").wait_for()
        assert tab.locator("#try-text").input_value() == "The capital of France is"
        assert tab.locator("#try-name").inner_text() == "L3H5"
        assert tab.locator("#try-changed").inner_text() == seen


def test_a_damaged_address_does_no_harm(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        load(tab, address, "?text=a%20b&head=L99H1&off=L9H9,x,L0H0&how=no&model=none&sample=zz")
        assert tab.locator("#try-off").inner_text() == "Off (each gives its mean): L0H0"
        load(tab, address, "?text=a&off=L1H2+L0H0")
        assert tab.locator("#try-off").inner_text().endswith("L1H2, L0H0")
        load(tab, address, "?text=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
        assert tab.locator("article img").count() == 0


def test_keys_alone_are_enough(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.goto(address + "try/")
        tab.locator("#try-text").focus()
        tab.locator("#try-result").wait_for()
        ready(tab)
        for _ in range(40):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.classList.contains('try-cell')"):
                break
        first = tab.locator("#try-name").inner_text()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press("ArrowUp")
        at = Head.parse(first)
        assert tab.locator("#try-name").inner_text() == str(Head(at.layer - 1, at.head + 1))
        tab.keyboard.press("x")
        tab.locator(".try-off").wait_for()
        assert "(off)" in (tab.evaluate("document.activeElement.getAttribute('aria-label')") or "")
        tab.keyboard.press("x")
        tab.wait_for_function("!document.querySelector('.try-off')")


def test_long_texts_are_cut_with_a_line_that_says_so(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        load(tab, address)
        tab.locator("#try-text").fill(" lamp" * 140)
        tab.wait_for_function("/left out/.test(document.getElementById('try-status').textContent)")
        said = tab.locator("#try-status").inner_text()
        assert (
            said.startswith("128 tokens") and "reads at most 128 tokens: the last 13 of this text are left out" in said
        )
        tab.locator("#try-text").fill("a <|endoftext|>")
        tab.wait_for_function("/special token/.test(document.getElementById('try-status').textContent)")
        tab.locator("#try-text").fill("")
        tab.wait_for_function("/^1 token/.test(document.getElementById('try-status').textContent)")


def test_a_specimen_that_does_not_load_is_said_and_loaded_again(browser: Any, address: str) -> None:
    with tab_on(browser, address) as tab:
        tab.route("**/tokenizer.json", lambda route: route.fulfill(status=200, body="{}"))
        tab.goto(address + "try/")
        tab.get_by_role("button", name="two names").click()
        tab.get_by_text("could not be loaded").wait_for()
        tab.unroute("**/tokenizer.json")
        tab.get_by_role("button", name="a capital").click()
        tab.locator("#try-result").wait_for()
        assert tab.locator("#try-before code").first.inner_text() == "␣Paris"


def test_recorded_texts_are_shown_as_recorded(browser: Any, address: str, shipped: list[RecordedPatterns]) -> None:
    (smol,) = [each for each in shipped if each.model.catalog_id == "smollm2-135m-instruct"]
    text = next(each for each in smol.texts if each.id == "words-twice")
    head = ATLAS.by_place["induction", "smollm2-135m-instruct"].record.selected[0]
    with tab_on(browser, address) as tab:
        load(tab, address, f"?model=smollm2-135m-instruct&sample={text.id}&head={head}")
        assert tab.locator(".try-cell").count() == len(smol.model.every_head)
        assert not tab.locator("#try-next").is_visible() and not tab.locator("#try-text").is_visible()
        assert "Induction head" in tab.locator("#try-names").inner_text()
        query = len(text.tokens) - 1
        tab.locator("#try-tokens button").nth(query).hover()
        row = unpacked(text)[head.layer * smol.model.heads + head.head, query]
        key = int(row.argmax())
        assert f"From ␣ocean ({query}): {row[key]:.2f} to ␣ticket ({key})" in tab.locator("#try-reading").inner_text()
        tab.locator("#try-sample").select_option("days")
        tab.wait_for_function("/Monday/.test(document.getElementById('try-status').textContent)")
        assert "sample=days" in tab.url


def test_without_javascript_one_sentence_says_so(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address + "try/")
    assert tab.locator("noscript").bounding_box()["height"] > 10 and "needs JavaScript" in tab.content()
    assert not tab.locator("#try").is_visible()
    context.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        (1400, "light"),
        pytest.param(390, "light", marks=pytest.mark.slow),
        pytest.param(1400, "dark", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_and_nothing_is_too_wide(browser: Any, address: str, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    off = ",".join(map(str, FOUND))
    with tab_on(browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme) as tab:
        for query in (f"?text=The%20cup%0A%20of%20tea&off={off}", "?model=smollm2-135m-instruct"):
            load(tab, address, query)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            wide = (
                "(box) => [...box.querySelectorAll('*')].filter((each) => each.scrollWidth > each.clientWidth + 1 && "
                "getComputedStyle(each).overflowX === 'visible' && each.clientWidth).map((each) => each.className)"
            )
            assert tab.locator("#try").evaluate(wide) == []
            found = axe.Axe().run(tab).response["violations"]
            assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []


# --- recorded patterns ----------------------------------------------------------------------------------------


def test_recorded_patterns_fit_their_models_and_the_texts_of_the_tool(shipped: list[RecordedPatterns]) -> None:
    assert {each.model.catalog_id for each in shipped} == {"smollm2-135m-instruct", "gemma-3-270m"}
    for each in shipped:
        id = each.model.catalog_id
        assert {text.id: (text.name, text.text) for text in each.texts} == record_patterns.TEXTS
        runs = [result.record for result in ATLAS.runs_on(str(id))]
        assert runs and not [run.entry.id for run in runs if run.model.differs(each.model)]
        assert (FOLDER / f"{id}.json").stat().st_size < 1_500_000
        for text in each.texts:
            rows = unpacked(text).sum(-1)
            assert np.abs(rows - 1).max() < 0.5 * len(text.tokens) / 255 + 1e-6  # a byte rounds by half a step


def test_what_the_tool_records_is_what_the_lab_records(specimen: OpenModel) -> None:
    found = record_patterns.recorded(specimen)
    assert found.model.sha256 == specimen.sha256
    again = RecordedPatterns.model_validate_json(found.model_dump_json())
    for text in again.texts:
        assert text.tokens == specimen.tokens(text.text)[0].tolist()
        wanted = recorded(specimen, text.tokens)
        assert np.abs(unpacked(text).reshape(wanted.shape) - wanted).max() <= 0.5 / 255 + 1e-6


def test_patterns_that_do_not_fit_are_refused(shipped: list[RecordedPatterns]) -> None:
    text = shipped[0].texts[0].model_dump()
    for wrong in ({"tokens": text["tokens"][1:], "pieces": text["pieces"][1:]}, {"pieces": text["pieces"][1:]}):
        with pytest.raises(ValidationError, match="do not fit"):
            RecordedPatterns.model_validate(shipped[0].model_dump() | {"texts": [text | wrong]})


def test_names_are_those_of_the_census_and_of_the_records() -> None:
    (census,) = [each for each in reading.recorded() if each.model.id == "specimen"]
    names = try_it.census_names(ATLAS, census)
    assert {head.head: [label.type for label in head.labels] for head in census.heads if head.labels} == {
        head: [name["type"] for name in found] for head, found in names.items()
    }
    records = [result.record for result in ATLAS.runs_on("smollm2-135m-instruct")]
    named = {(head, name["type"]) for head, found in try_it.record_names(ATLAS, records).items() for name in found}
    assert named == {(str(head), run.entry.id) for run in records for head in run.selected}
    assert json.dumps(names)


def test_the_tool_says_which_model_it_does_not_know(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "record_patterns.py"), "no-such-model", "--out", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 2 and "Traceback" not in said.stderr and "no-such-model" in said.stderr
    assert not list(tmp_path.iterdir())
