"""The questions one can ask the catalog, on one small enough to know every answer."""

import re
from pathlib import Path

import pytest

import headatlas
import small_catalog
from headatlas import Catalog, Head, HeadatlasError
from places import ROOT
from small_catalog import edit, entry, finding

SHIPPED = headatlas.load()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return headatlas.load(small_catalog.write(tmp_path_factory.mktemp("small") / "catalog"))


class TestHead:
    @pytest.mark.parametrize(
        "name", ["previous-token", "Previous token head", "PREVIOUS TOKEN", "previous token heads", "Prévious-Token"]
    )
    def test_ids_names_and_their_spellings(self, small: Catalog, name: str) -> None:
        assert small.head(name).id == "previous-token"

    def test_a_name_of_two_types_lists_both(self, small: Catalog) -> None:
        with pytest.raises(HeadatlasError, match="could be induction or suppressor; give one of these ids"):
            small.head("copying heads")

    def test_an_unknown_one_suggests_near_ones(self, small: Catalog) -> None:
        with pytest.raises(HeadatlasError, match="did you mean induction"):
            small.head("inductoin")
        with pytest.raises(HeadatlasError, match="`headatlas list` shows all ids"):
            small.head("zzz")


class TestFind:
    @pytest.mark.parametrize("stage", ["LR", "lr", "latent-reasoning", "Latent reasoning"])
    def test_by_stage(self, small: Catalog, stage: str) -> None:
        assert list(small.find(stage=stage)) == ["induction", "suppressor"]

    @pytest.mark.parametrize(
        "conditions, found",
        [
            ({}, ["induction", "previous-token", "suppressor"]),
            ({"group": "overall-structure"}, ["previous-token"]),
            ({"model": "tiny"}, ["induction", "suppressor"]),
            ({"model": "lee/tiny", "status": "contested"}, ["suppressor"]),
            ({"placed_by": "headatlas"}, ["suppressor"]),
            ({"method": "scoring", "benchmark": "ioi", "circuit": "pair", "stage": "ICI"}, ["previous-token"]),
            ({"text": "supressor"}, ["suppressor"]),
            ({"text": "suppressor", "stage": "ICI"}, []),
        ],
    )
    def test_by_conditions(self, small: Catalog, conditions: dict, found: list[str]) -> None:
        assert list(small.find(**conditions)) == found

    @pytest.mark.parametrize(
        "conditions, complaint",
        [
            ({"stage": "latent-reasonin"}, "did you mean 'latent-reasoning'"),
            ({"group": "nothing-like-it"}, "no group is called"),
            ({"model": "tinny"}, "did you mean tiny"),
            ({"method": "scorin"}, "did you mean 'scoring'"),
            ({"status": "rumour"}, "use one of"),
        ],
    )
    def test_an_unknown_value_is_an_error_and_not_an_empty_answer(
        self, small: Catalog, conditions: dict, complaint: str
    ) -> None:
        with pytest.raises(HeadatlasError, match=complaint):
            small.find(**conditions)


class TestFindings:
    def test_all_of_them(self, small: Catalog) -> None:
        assert [(known.head_type.id, known.finding.id) for known in small.findings()] == [
            ("induction", "first"),
            ("induction", "scored"),
            ("previous-token", "first"),
            ("suppressor", "first"),
            ("suppressor", "no"),
        ]

    def test_of_a_head_over_all_types(self, small: Catalog) -> None:
        found = small.findings(model="tiny", head="1.0")
        assert [(known.head_type.id, known.finding.id) for known in found] == [
            ("induction", "first"),
            ("suppressor", "no"),
        ]
        assert len(small.findings(model="tiny", head=Head(1, 2))) == 1
        assert len(small.findings(model="tiny", head="L0H0")) == 0

    def test_by_other_conditions(self, small: Catalog) -> None:
        assert len(small.findings(stance="contradicts")) == 1
        assert len(small.findings(kind="behavioural", type="induction head")) == 1
        assert len(small.findings(source="nobody2020none")) == 0

    @pytest.mark.parametrize("head", ["L2H0", "L0H4"])
    def test_a_head_the_model_lacks_is_an_error(self, small: Catalog, head: str) -> None:
        with pytest.raises(HeadatlasError, match="is not a head of tiny, which has 2 layers of 4 heads"):
            small.findings(model="tiny", head=head)


class TestWho:
    def test_names_with_support_and_dispute_and_circuits(self, small: Catalog) -> None:
        induction, suppressor = small.who("tiny", "L1H0")
        assert induction.head_type.id == "induction" and [each.id for each in induction.findings] == ["first"]
        assert [circuit.id for circuit, _ in induction.roles] == ["pair"] and induction.sources == ["lee2024heads"]
        assert suppressor.findings == () and [each.id for each in suppressor.disputing] == ["no"]

    def test_nobody(self, small: Catalog) -> None:
        assert small.who("tiny", "L0H0") == ()

    def test_the_negative_name_mover_of_gpt2(self) -> None:
        named = {naming.head_type.id: naming for naming in SHIPPED.who("gpt2", "L10H7")}
        assert {"negative-name-mover", "copy-suppression"} <= set(named)
        assert "wang2023interpretability" in named["negative-name-mover"].sources
        assert "mcdougall2024copy" in named["copy-suppression"].sources


class TestSearch:
    @pytest.mark.parametrize(
        "query, first",
        [
            ("needle in a haystack", "retrieval"),
            ("indution", "induction"),
            ("sucessor heads", "successor"),
            ("weekday or month", "successor"),
            ("duplicate token", "duplicate-token"),
            ("S-inhibition", "inhibition"),
        ],
    )
    def test_leads_to_what_is_meant(self, query: str, first: str) -> None:
        assert SHIPPED.search(query)[0].head_type.id == first

    @pytest.mark.parametrize("query", ["", "   ", "?!", "the", "qqqqqqqq xxxxxxxx", "\x00", "é" * 500])
    def test_any_query_has_an_answer(self, query: str) -> None:
        for hit in SHIPPED.search(query):
            assert hit.score > 0

    def test_the_excerpt_holds_the_match(self) -> None:
        hit = SHIPPED.search("eigenvalues")[0]
        assert "eigenvalue" in hit.excerpt.lower() and len(hit.excerpt) < 160

    def test_words_that_match_nothing_find_nothing(self, small: Catalog) -> None:
        assert small.search("zebra quagga") == []


class TestCite:
    def test_an_entry_a_key_and_both_once(self, tmp_path: Path) -> None:
        folder = small_catalog.write(tmp_path / "catalog")
        edit(
            folder,
            "heads/previous-token.yaml",
            findings=[finding("a"), finding("b", source="abe2020first")],
        )
        path = folder / "references.bib"
        path.write_text(entry("abe2020first", "Else", "2001.00001") + path.read_text())
        catalog = headatlas.load(folder)
        assert [each.key for each in catalog.cite("previous token head")] == ["abe2020first", "lee2024heads"]
        assert [each.key for each in catalog.cite(["induction", "lee2024heads", "pair"])] == ["lee2024heads"]
        text = catalog.bibtex(["abe2020first"])
        assert text.count("@misc") == 1 and "title = {Else}" in text
        assert catalog.bibtex().count("@misc") == 2
        with pytest.raises(HeadatlasError, match="no head type is called"):
            catalog.bibtex(["nobody2020none"])

    def test_what_is_written_reads_back(self) -> None:
        import bibtexparser

        library = bibtexparser.parse_string(SHIPPED.bibtex())
        assert not library.failed_blocks
        assert [each.key for each in library.entries] == list(SHIPPED.references)


class TestForms:
    def test_frames(self, small: Catalog) -> None:
        heads = small.heads.to_frame()
        assert list(heads.index) == ["induction", "previous-token", "suppressor"]
        assert heads.loc["induction", "findings"] == 2 and heads.loc["suppressor", "placed_by"] == "headatlas"
        findings = small.findings(type="induction").to_frame()
        assert list(findings["heads"]) == ["L1H0", "L1H1 L1H2"] and findings.loc[1, "scores"] == "L1H1=0.9 L1H2=0.5"
        assert small.find(text="zebra quagga").to_frame().empty
        assert small.findings(source="nobody2020none").to_frame().empty

    def test_a_notebook_shows_tables_and_escapes_what_entries_say(self, tmp_path: Path) -> None:
        folder = small_catalog.write(tmp_path / "catalog")
        edit(folder, "heads/induction.yaml", summary="<script>alert(1)</script>")
        catalog = headatlas.load(folder)
        for html in (catalog._repr_html_(), catalog.heads._repr_html_(), catalog.findings()._repr_html_()):
            assert html.count("<table>") == 1 and "induction" in html and "<script>" not in html
        assert "&lt;script&gt;" in catalog.heads._repr_html_()

    def test_the_graph_has_the_relations_as_stated(self, small: Catalog) -> None:
        graph = small.graph()
        assert set(graph) == set(small.heads) and graph.nodes["induction"]["stage"] == "latent-reasoning"
        assert set(graph.edges(keys=True)) == {
            ("induction", "previous-token", "composes-with"),
            ("induction", "suppressor", "antagonist"),
            ("suppressor", "induction", "antagonist"),
        }
        assert graph.edges["induction", "previous-token", "composes-with"]["via"] == "K"

    def test_slices_and_reprs(self, small: Catalog) -> None:
        assert repr(small) == "<headatlas catalog: 3 head types, 5 findings>"
        assert repr(small.find(stage="ICI")) == "<1 head types: previous-token>"
        assert repr(small.findings()[:2]) == "<2 findings on induction>"


@pytest.mark.parametrize("page", ["python.md", "lab.md"])
def test_the_examples_of_the_docs_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of code, and in a table with a column `here` whatever that holds."""
    monkeypatch.chdir(tmp_path)
    docs = (ROOT / "site" / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    rows = re.findall(r"^\|.*\| `(.*)` \|$", docs.partition("| here |")[2], re.MULTILINE)
    names: dict[str, object] = {}
    assert len(blocks) >= 4 and bool(rows) == (page == "lab.md")
    for code in (*blocks, *rows):
        exec(compile(code, f"site/{page}", "exec"), names)
