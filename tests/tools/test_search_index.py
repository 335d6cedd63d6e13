"""The index of the site's search: complete, and ranked as a reader would; the ranking runs in chromium."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build_pages
from headatlas.census.reading import recorded
from pages.atlas import by_page
from pages.search_index import search_index, sections
from places import ROOT
from site_pages import ATLAS, CATALOG

CENSUSES = [by_page(CATALOG, each) for each in recorded()]
# The pages that git does not have; of these the search knows the name only.
GENERATED = {Path(line).name for line in (ROOT / ".gitignore").read_text().splitlines() if line.endswith(".md")}


def made(site: Path = ROOT / "site") -> dict[str, Any]:
    return search_index(ATLAS, CENSUSES, site, GENERATED, build_pages.menu())


INDEX = made()


def test_everything_in_the_catalog_can_be_found() -> None:
    entries = INDEX["entries"]
    assert [row[1] for row in entries["type"]] == [f"heads/{id}/" for id in CATALOG.heads]
    for kind, folder in (
        ("circuit", "circuits"),
        ("method", "methods"),
        ("benchmark", "benchmarks"),
        ("model", "models"),
    ):
        assert [row[1] for row in entries[kind]] == [f"{folder}/{id}/" for id in getattr(CATALOG, folder)]
    assert [row[1] for row in entries["paper"]] == [f"papers/{key}/" for key in CATALOG.references]
    assert [row[1] for row in entries["term"]] == [f"glossary/#{id}" for id in CATALOG.glossary]
    assert len(INDEX["findings"]) == len(CATALOG.findings())
    for head, (_, _, _, other) in zip(CATALOG.heads.values(), entries["type"], strict=True):
        assert {alias.name for alias in head.aliases} <= set(other.split("; "))


def test_every_head_that_a_finding_or_a_census_names_is_there_with_its_types() -> None:
    types = list(CATALOG.heads)
    for known in CATALOG.findings():
        for head in known.finding.heads:
            reported, _, findings, _ = INDEX["heads"][known.finding.model][str(head)]
            assert findings
            assert known.finding.stance != "supports" or types.index(known.head_type.id) in reported
    for census in CENSUSES:
        for each in census.heads:
            if each.labels:
                measured = INDEX["heads"][census.model.id][each.head][1]
                assert {types.index(label.type) for label in each.labels} <= set(measured)


@pytest.mark.parametrize("file", ["L10H7.md", "L10H7/index.html"])
def test_a_head_has_a_page_where_its_file_is_there(tmp_path: Path, file: str) -> None:
    place = tmp_path / "models" / "gpt2" / file
    place.parent.mkdir(parents=True)
    place.write_text("")
    heads = made(tmp_path)["heads"]["gpt2"]
    assert heads["L10H7"][3] == 1 and heads["L9H9"][3] == 0


def test_sections_of_a_page_lead_to_their_anchors() -> None:
    page = "# Title\nlead\n## A `code` part\none\n\n```sh\n# no heading\n```\n"
    page += "## Twice\n### Twice\nlast\n## Own { #mine }\n"
    assert list(sections(page, "x/")) == [
        ["A code part", "x/#a-code-part", "Title", "one ```sh # no heading ```"],
        ["Twice", "x/#twice", "Title", ""],
        ["Twice", "x/#twice_1", "Title", "last"],
        ["Own", "x/#mine", "Title", ""],
    ]


def test_the_menu_is_there_and_so_is_the_text_of_pages_written_by_hand() -> None:
    pages = {address: (title, section, text) for title, address, section, text in INDEX["entries"]["page"]}
    assert pages["matrix/"][:2] == ("Types by models", "Does it hold?") and "" in pages and "census/" in pages
    assert any("--budget" in text for _, _, text in pages.values())


def test_the_index_is_no_larger_than_a_picture() -> None:
    assert len(json.dumps(INDEX, ensure_ascii=False, separators=(",", ":")).encode()) < 550_000


# --- ranking --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rank(browser: Any) -> Any:
    """The groups that a query gives: [(group, [titles])]."""
    tab = browser.new_page()
    tab.route("**/*", lambda route: route.fulfill(body="<body></body>", content_type="text/html"))
    tab.goto("http://site.test/page/")
    tab.add_script_tag(content=(ROOT / "site/assets/search-box.js").read_text(encoding="utf-8"))
    tab.evaluate("data => { window.index = headatlasSearch.prepare(data); }", INDEX)

    def ranked(query: str) -> list[tuple[str, list[str]]]:
        found = tab.evaluate("query => headatlasSearch.rank(window.index, query)", query)
        return [(each["group"], [result["title"] for result in each["results"]]) for each in found]

    yield ranked
    tab.close()


Rank = Callable[[str], list[tuple[str, list[str]]]]


@pytest.mark.parametrize(
    ("query", "group", "title"),
    [
        ("L9H9", "head", "L9H9 of GPT-2 small"),
        ("l10h7", "head", "L10H7 of GPT-2 small"),
        ("gpt2 L10H7", "head", "L10H7 of GPT-2 small"),
        ("GPT-2 small L10H7", "head", "L10H7 of GPT-2 small"),
        ("10.7", "head", "L10H7 of GPT-2 small"),
        ("gpt2 10.7", "head", "L10H7 of GPT-2 small"),
        ("layer 10 head 7", "head", "L10H7 of GPT-2 small"),
        ("gpt2-medium L9H9", "head", "L9H9 of GPT-2 medium"),
        ("copy suppression", "type", "Copy suppression head"),
        ("induction", "type", "Induction head"),
        ("induction heads", "type", "Induction head"),
        ("Anti-induction", "type", "Anti-induction head"),
        ("indction", "type", "Induction head"),
        ("retrieval head", "type", "Retrieval head"),
        ("retreival head", "type", "Retrieval head"),
        ("ioi", "circuit", "Indirect Object Identification (IOI)"),
        ("needle in a haystack", "benchmark", "Needle in a Haystack"),
        ("path patching", "method", "Path patching"),
        ("SmolLM2", "model", "SmolLM2 135M Instruct"),
        ("olsson 2022", "paper", "Olsson et al. 2022"),
        ("logit lens", "method", "Logit lens"),
        ("nats", "term", "Nat"),
    ],
)
def test_what_one_would_expect_comes_first(rank: Rank, query: str, group: str, title: str) -> None:
    found = rank(query)
    assert (found[0][0], found[0][1][0]) == (group, title), found[:3]


def test_a_head_is_that_head_alone(rank: Rank) -> None:
    (group, heads), *_ = rank("L1H1")
    assert group == "head" and all(each.startswith("L1H1 of ") for each in heads)
    named = {CATALOG.models[id].name for id, known in INDEX["heads"].items() if "L1H1" in known}
    assert {each.removeprefix("L1H1 of ") for each in heads} == named


def test_numbers_of_models_are_no_heads(rank: Rank) -> None:
    assert rank("llama 3.1")[0][0] == "model"


def test_nothing_is_found_where_nothing_is(rank: Rank) -> None:
    assert rank("zzzqqqxxx") == [] and rank("L999H999") == [] and rank("  ") == []


def test_parts_of_words_are_enough_while_one_types(rank: Rank) -> None:
    assert "Retrieval head" in dict(rank("retr"))["type"]


def test_text_of_a_finding_and_of_a_page_by_hand_is_found(rank: Rank) -> None:
    assert "finding" in dict(rank("smeared keys phase change"))
    assert "How a model is opened" in dict(rank("how a model is opened"))["page"]
    assert (
        "Found means: it passes again on new prompts"
        in dict(rank("heads selected and then failed did_not_hold"))["page"]
    )
