"""How a finding's figure is written, and what the status of a head type is computed from."""

from pathlib import Path
from typing import Any

import pytest

import headatlas
import small_catalog
from headatlas.catalog.exporting import export
from headatlas.catalog.loading import check
from headatlas.notation import Head
from small_catalog import edit, entry, finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_catalog.write(tmp_path / "catalog")


@pytest.mark.parametrize(
    "fields, figure",
    [
        ({}, ""),
        ({"value": 93.0, "unit": "%"}, "93%"),
        ({"value": 93.0, "unit": "%", "bound": "at least"}, "at least 93%"),
        ({"value": 5.0, "unit": "%", "bound": "at most"}, "at most 5%"),
        ({"value": 8.0, "unit": "heads", "bound": "about"}, "about 8 heads"),
        ({"value": 4.0, "unit": "heads", "of": 10}, "4 of 10 heads"),
        ({"value": 0.5, "unit": "nats", "error": 0.1}, "0.5 ± 0.1 nats"),
        ({"value": 0.81}, "0.81"),
    ],
)
def test_a_figure_says_its_bound_and_its_total(folder: Path, fields: dict[str, Any], figure: str) -> None:
    more = {"metric": "m", **fields} if fields else {}
    edit(folder, "heads/previous-token.yaml", findings=[finding("first", **more)])
    catalog = headatlas.load(folder)
    assert catalog.heads["previous-token"].findings[0].figure == figure
    assert figure in catalog.findings(type="previous-token")._repr_html_()


def test_a_bound_of_scores_stands_at_each_of_them(folder: Path) -> None:
    scored = finding("first", model="tiny", scores={"L1H1": 0.9}, metric="m", bound="at least")
    edit(folder, "heads/previous-token.yaml", findings=[scored])
    made = headatlas.load(folder).heads["previous-token"].findings[0]
    assert (made.score(Head(1, 1)), made.score(Head(0, 0)), made.figure) == ("at least 0.9", "", "")


def test_exports_have_bound_and_total_in_columns_of_their_own(folder: Path) -> None:
    made = finding("first", metric="m", value=4.0, unit="heads", of=10, bound="about")
    edit(folder, "heads/previous-token.yaml", findings=[made])
    (row,) = headatlas.load(folder).findings(type="previous-token").rows()
    assert (row["value"], row["unit"], row["bound"], row["of"]) == (4.0, "heads", "about", 10)
    header = export(headatlas.load(folder), "csv").splitlines()[0].split(",")
    assert {"value", "unit", "bound", "of", "checked"} <= set(header)


def sources(*findings: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding(f"f-{n}", source=source, **more) for n, (source, more) in enumerate(findings)]


NAMES = {"kind": "behavioural", "model": "tiny", "heads": ["L0H0"]}


@pytest.mark.parametrize(
    "findings, status",
    [
        ([("lee2024heads", {})], "single-source"),
        ([("lee2024heads", {"kind": "behavioural"})], "single-source"),
        ([("lee2024heads", {}), ("lee2024heads", NAMES)], "single-source"),
        ([("lee2024heads", {}), ("abe2020first", {"kind": "behavioural"})], "single-source"),
        ([("lee2024heads", {}), ("abe2020first", {"stance": "qualifies"})], "single-source"),
        ([("lee2024heads", {}), ("abe2020first", NAMES)], "supported"),
        ([("lee2024heads", {}), ("abe2020first", {"kind": "mechanistic"})], "supported"),
        ([("lee2024heads", {}), ("abe2020first", NAMES), ("abe2021next", {})], "established"),
        (
            [
                ("lee2024heads", {}),
                ("abe2020first", {}),
                ("abe2021next", {}),
                ("abe2021next", {"stance": "contradicts"}),
            ],
            "established",
        ),
    ],
)
def test_the_status_counts_sources_that_name_heads_or_intervene(folder: Path, findings: Any, status: str) -> None:
    edit(folder, "heads/previous-token.yaml", findings=sources(*findings))
    path = folder / "references.bib"
    path.write_text(
        entry("abe2020first", "First", "2001.00001") + entry("abe2021next", "Next", "2101.00001") + path.read_text()
    )
    assert headatlas.load(folder).heads["previous-token"].status == status


@pytest.mark.parametrize("core, status", [(True, "contested"), (False, "single-source")])
def test_only_a_dispute_about_the_type_itself_makes_it_contested(folder: Path, core: bool, status: str) -> None:
    dispute = {"statement": "Whether it exists.", "findings": ["no"], "core": core}
    edit(folder, "heads/suppressor.yaml", controversies=[dispute])
    catalog = headatlas.load(folder)
    assert catalog.heads["suppressor"].status == status
    assert catalog.to_json()["heads"][2]["status"] == status
    assert list(catalog.find(status=status))[-1] == "suppressor"


def test_a_file_cannot_write_its_status(folder: Path) -> None:
    edit(folder, "heads/suppressor.yaml", status="established")
    assert any("suppressor.yaml: status: unknown field" in str(problem) for problem in check(folder)[1])


@pytest.mark.parametrize(
    "at, checked, said",
    [
        ("scores.json as above, entry gpt2", "primary", "'as above' refers to another place"),
        ("README of lee/heads", "primary", "lee/heads changes; name the commit that was read, as lee/heads@1a2b3c4"),
        ("Abstract (arXiv v2)", "primary", "only the abstract is named"),
        ("Section 3.1 and Figure 2", "abstract", "not a place in an abstract or summary"),
    ],
)
def test_a_place_is_found_without_its_neighbours(folder: Path, at: str, checked: str, said: str) -> None:
    edit(folder, "heads/previous-token.yaml", findings=[finding("first", at=at, checked=checked)])
    (problem,) = (each for each in check(folder)[1] if each.field.startswith("findings."))
    assert said in problem.message and (problem.file, problem.field) == ("heads/previous-token.yaml", "findings.0")


@pytest.mark.parametrize(
    "at, checked",
    [
        ("README of lee/heads@1a2b3c4, list of heads", "primary"),
        ("Table of heads (tables/heads.tex)", "primary"),
        ("lee/heads, src/heads.py, lines 3-9, commit 1a2b3c4", "primary"),
        ("Abstract; the figure is that of Section 3", "abstract"),
        ("As summarised on example.org/topics/heads", "secondary"),
    ],
)
def test_a_place_that_can_be_found_is_accepted(folder: Path, at: str, checked: str) -> None:
    edit(folder, "heads/previous-token.yaml", findings=[finding("first", at=at, checked=checked)])
    assert not check(folder)[1]
