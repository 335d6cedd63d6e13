"""The pages: everything is on them, and nothing an entry says can become markup."""

from types import ModuleType

import pytest

import headatlas
from conftest import load_tool
from headatlas import paths
from headatlas.evidence.records import Record, read_all
from headatlas.figures.heatmap import heatmap, top_of

CATALOG = headatlas.load()


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    return load_tool("build_pages")


def records_of(id: str) -> list[Record]:
    return [record for record in read_all(paths.records()) if record.entry.id == id]


@pytest.mark.parametrize("head", CATALOG.heads.values(), ids=list(CATALOG.heads))
def test_a_page_shows_every_finding_and_every_run(builder: ModuleType, head) -> None:
    page = builder.head_page(CATALOG, head, records_of(head.id))
    for finding in head.findings:
        assert f'id="{finding.id}"' in page
        assert all(f"<code>{each}</code>" in page for each in finding.heads)
    for record in records_of(head.id):
        assert f"On {builder.text(record.model.name)}: {record.verdict.label}" in page
    for expected in head.reproduction.expected:
        assert expected.verdict in page
    for name, score in (pair for finding in head.findings for pair in finding.scores.items()):
        assert f"<code>{name}</code> {score:g}" in page
    for other in (*head.distinct_from, *head.relations):
        assert f'href="../{other.head}/"' in page
    compared = head.reproduction.expected or any(finding.model and finding.heads for finding in head.findings)
    assert ("papers report" in page and "we measured" in page) == bool(compared)


def test_an_entry_cannot_put_markup_on_a_page(builder: ModuleType) -> None:
    hostile = '<script>alert("x")</script> [click](javascript:alert(1)) **bold** {{ macro }} `code` | cell # head'
    head = CATALOG.heads["induction"].model_copy(
        update={"name": hostile, "summary": hostile, "definition": hostile, "open_questions": (hostile,) * 1000}
    )
    page = builder.head_page(CATALOG, head, [])
    assert "&#60;script&#62;" in page and "&#35;91" not in page
    assert "<script" not in page and "](javascript" not in page and "**bold" not in page and "{{" not in page


class TestHeatmap:
    def test_marks_the_heads_found_and_those_reported(self) -> None:
        drawn = heatmap([[0.0, 0.5], [1.0, 2.0]], found=[(1, 0)], reported=[(0, 1)], title="t")
        assert drawn.count('class="atlas-found"') == 1 and "L1H0: 1.00, found" in drawn
        assert drawn.count('class="atlas-reported"') == 1 and "L0H1: 0.50, named by papers" in drawn
        assert 'fill-opacity="1.000"' in drawn and 'fill-opacity="2' not in drawn

    def test_small_scores_are_drawn_against_the_largest(self) -> None:
        scores = [[0.02, 0.01], [0.0, -0.5]]
        assert top_of(scores, threshold=0.01) == 0.02 and top_of(scores, threshold=0.05) == 0.05
        assert top_of([[0.1, 0.7]], threshold=0.4) == 1.0 and top_of([[0.1, 7.0]], threshold=0.4) == 7.0
        drawn = heatmap(scores, found=[], title="t", top=0.02)
        assert [drawn.count(f'fill-opacity="{shade}"') for shade in ("1.000", "0.500", "0.000")] == [1, 1, 2]

    def test_is_well_formed_and_says_what_it_shows(self) -> None:
        from xml.etree import ElementTree

        root = ElementTree.fromstring(heatmap([[0.1] * 12] * 12, found=[], title='a "quoted" <title>'))
        assert root.attrib["aria-label"] == 'a "quoted" <title>' and root.attrib["role"] == "img"
        assert len(root.findall("g")) == 144
