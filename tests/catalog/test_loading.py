"""What the loader and the checks say about a broken catalog: everything at once, file and field, what to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headatlas
import small_catalog
from headatlas.catalog import loading
from headatlas.catalog.loading import check
from headatlas.catalog.problems import CatalogError
from headatlas.catalog.schema.reproduction import Expectation
from headatlas.notation import Head
from small_catalog import CITE, edit, entry, finding, head, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_catalog.write(tmp_path / "catalog")


def problems(folder: Path) -> list[str]:
    return [str(problem) for problem in check(folder)[1]]


def test_the_small_catalog_is_valid(folder: Path) -> None:
    assert problems(folder) == []


def test_all_errors_of_all_files_are_reported_at_once(folder: Path) -> None:
    edit(folder, "heads/induction.yaml", colour="blue", name=7)
    edit(folder, "heads/previous-token.yaml", methods=["scorin"], findings=[finding("x", source="nobody2020none")])
    (folder / "models" / "other.yaml").write_text((folder / "models" / "tiny.yaml").read_text())
    found = problems(folder)
    for expected in (
        "catalog/heads/induction.yaml: colour: unknown field",
        "catalog/heads/induction.yaml: name: ",
        "catalog/heads/previous-token.yaml: methods.0: there is no 'scorin'; did you mean 'scoring'?",
        "catalog/heads/previous-token.yaml: source: no BibTeX entry 'nobody2020none'",
        "catalog/models/other.yaml: id: 'tiny' is also the id of another file of models",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)


def test_a_broken_file_does_not_make_links_to_it_errors_too(folder: Path) -> None:
    edit(folder, "heads/previous-token.yaml", colour="blue")
    assert [line for line in problems(folder) if "there is no" in line or "no entry" in line] == []


def test_load_raises_with_every_problem(folder: Path) -> None:
    edit(folder, "heads/induction.yaml", colour="blue", flavour="sweet")
    with pytest.raises(CatalogError) as caught:
        headatlas.load(folder)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"stage": "expression"}, "stage"),
        ({"group": "signal-amplification"}, "group: 'signal-amplification' is not a group of"),
        ({"status": "supported"}, "status: unknown field"),
        ({"findings": []}, "findings"),
        ({"placed_why": "So."}, "`placed_why:` goes with `placed_by: headatlas`"),
        ({"placed_by": "headatlas", "placed_why": "So."}, "placed_by: is 'headatlas', but the survey lists it"),
        ({"reproduction": {"needs": "n", "smallest_why": "w", "smallest_model": "huge"}}, "there is no 'huge'"),
        ({"findings": [finding("a"), finding("a")]}, "finding ids used twice: a"),
        ({"controversies": [{"statement": "s", "findings": ["z"]}]}, "controversy names findings this entry lacks: z"),
        ({"relations": [{"type": "feeds", "head": "nowhere", "source": "lee2024heads"}]}, "there is no 'nowhere'"),
        ({"relations": [{"type": "feeds", "head": "induction", "source": "lee2024heads"}]}, "feeds itself"),
        ({"distinct_from": [{"head": "nowhere", "why": "w"}]}, "distinct_from.0.head: there is no 'nowhere'"),
        ({"summary": "TODO: write this."}, "summary: still contains TODO"),
        ({"circuits": []}, "circuits: the circuit 'pair' contains this type; list it"),
    ],
)
def test_refuses_head_types_that_cannot_be_right(folder: Path, change: dict, complaint: str) -> None:
    edit(folder, "heads/induction.yaml", **change)
    assert any(complaint in line and "heads/induction.yaml" in line for line in problems(folder)), problems(folder)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"heads": ["L2H0"]}, "expected.0.heads: L2H0 is not a head of tiny"),
        ({"layers": "0-2"}, "expected.0.layers: L2H0 is not a head of tiny"),
        ({"layers": "0, 1"}, None),
        ({"layers": "0..1"}, "expected.0.layers"),
        ({"model": "nowhere"}, "expected.0.model: there is no 'nowhere'"),
    ],
)
def test_refuses_expectations_that_cannot_be_right(folder: Path, change: dict, complaint: str | None) -> None:
    rule = headatlas.load().heads["induction"].rule
    assert rule
    expected = {"model": "tiny", "verdict": "partly", "why": "w", **change}
    rerun = {"needs": "n", "smallest_why": "w", "rule": rule.model_dump(mode="json"), "expected": [expected]}
    edit(folder, "heads/induction.yaml", reproduction=rerun)
    found = [line for line in problems(folder) if "heads/induction.yaml" in line]
    assert any(complaint in line for line in found) if complaint else not found, found


def test_expected_layers() -> None:
    expected = Expectation(model="m", verdict="partly", layers="1-3, 7", why="w")
    assert expected.layer_numbers == (1, 2, 3, 7) and expected.layers_text == "layers 1 to 3, 7"
    assert expected.in_layers([Head(1, 5), Head(3, 0), Head(4, 0), Head(7, 1)]) == 3
    assert Expectation(model="m", verdict="partly", why="w").layer_numbers == ()


@pytest.mark.parametrize(
    "bad, complaint",
    [
        ({"heads": ["L1H1"]}, "heads need a model"),
        ({"value": 1.0}, "a value needs `metric:`"),
        ({"error": 0.1}, "`error:` belongs to a `value:`"),
        ({"model": "tiny", "heads": [5.10]}, "5.10 would read as 5.1"),
        ({"model": "tiny", "heads": ["L2H0"]}, "L2H0 is not a head of tiny (2 layers x 4 heads)"),
        ({"model": "tiny", "heads": ["L1H1", "1.1"]}, "listed twice"),
        ({"model": "tiny", "scores": {"L0H4": 0.5}, "metric": "m"}, "L0H4 is not a head of tiny"),
        ({"model": "tiny", "scores": {"L0H1": 0.5}}, "`scores:` need `metric:`"),
        ({"model": "tiny", "heads": ["L0H0"], "scores": {"L0H1": 0.5}, "metric": "m"}, "differ; drop `heads:`"),
        ({"model": "tiny", "scores": {"0.1": 0.5}, "metric": "m"}, "scores.0.1"),
        ({"scores": {"L0H1": 0.5}, "metric": "m"}, "heads need a model"),
        ({"n": "12"}, "got '12'"),
        ({"metric": "m", "value": float("nan")}, "finite"),
        ({"metric": "m", "value": 1.0, "unit": "percent"}, "unit: "),
        ({"bound": "at least"}, "`bound:` says how exact"),
        ({"metric": "m", "value": 1.0, "unit": "heads", "bound": "over"}, "bound: "),
        ({"metric": "m", "value": 5.0, "unit": "heads", "of": 4}, "`of:` is the total"),
        ({"metric": "m", "value": 3.0, "of": 4}, "`of:` is the total"),
        ({"at": ""}, "at least 1 character"),
        ({"source": None}, "source"),
        ({"at": None}, "at: is missing; add it"),
    ],
)
def test_refuses_findings_that_cannot_be_right(folder: Path, bad: dict, complaint: str) -> None:
    bad_one = {name: value for name, value in finding("bad", **bad).items() if value is not None}
    edit(folder, "heads/previous-token.yaml", findings=[finding("first"), bad_one])
    found = [line for line in problems(folder) if "heads/previous-token.yaml: findings.1" in line]
    assert any(complaint in line for line in found), problems(folder)


def test_scores_name_the_heads(folder: Path) -> None:
    scored = headatlas.load(folder).heads["induction"].findings[1]
    assert [str(each) for each in scored.heads] == ["L1H1", "L1H2"]


class TestTheWhole:
    @pytest.mark.parametrize(
        "file, kind",
        [
            ("heads/induction.yaml", "heads"),
            ("heads/suppressor.yaml", "heads"),
            ("methods/scoring.yaml", "methods"),
            ("benchmarks/ioi.yaml", "benchmarks"),
            ("circuits/pair.yaml", "circuits"),
        ],
    )
    def test_what_the_taxonomy_lists_must_be_there(self, folder: Path, file: str, kind: str) -> None:
        (folder / file).unlink()
        assert any(f"taxonomy.yaml: {kind}: {Path(file).stem!r} has no entry" in line for line in problems(folder))

    @pytest.mark.parametrize("name", ["parallels", "glossary", "limitations", "directions", "topics"])
    def test_and_so_must_the_short_entries(self, folder: Path, name: str) -> None:
        put(folder, f"{name}.yaml", **{name: []})
        assert any(f"listed here or in {name}.yaml, but not in both" in line for line in problems(folder))

    def test_a_type_of_the_survey_stands_where_the_survey_puts_it(self, folder: Path) -> None:
        edit(folder, "heads/induction.yaml", stage="in-context-identification", group="overall-structure")
        assert any("the survey puts it under latent-reasoning / in-context-learning" in x for x in problems(folder))

    @pytest.mark.parametrize(
        "columns, not_drawn, complaint",
        [
            ([{"layers": ["deep"], "heads": ["previous-token"]}], [], "'induction' is missing; add it to a column"),
            (
                [{"layers": ["deep"], "heads": ["suppressor", "induction"]}],
                ["previous-token"],
                "'suppressor' is not in",
            ),
            ([{"layers": ["deep"], "heads": ["previous-token", "induction"]}], ["induction"], "placed twice"),
        ],
    )
    def test_the_figure_of_depths_places_each_type_of_the_survey_once(
        self, folder: Path, columns: list[dict[str, list[str]]], not_drawn: list[str], complaint: str
    ) -> None:
        edit(folder, "taxonomy.yaml", depths={"reading": "R.", "columns": columns, "not_drawn": not_drawn, **CITE})
        (line,) = problems(folder)
        assert "taxonomy.yaml: depths: " in line and complaint in line

    def test_the_parts_of_a_group_hold_its_types(self, folder: Path) -> None:
        stages = yaml.safe_load((folder / "taxonomy.yaml").read_text())["stages"]
        stages[1]["groups"][0]["parts"][0]["heads"] = ["suppressor"]
        edit(folder, "taxonomy.yaml", stages=stages)
        (line,) = problems(folder)
        assert "in-context-learning.parts: must hold each type of the group once; see induction, suppressor" in line

    def test_a_term_is_linked_or_says_where_it_is_met(self, folder: Path) -> None:
        term = {"id": "circuit", "name": "Circuit", "definition": "D.", "sources": ["lee2024heads"]}
        put(folder, "glossary.yaml", glossary=[term])
        assert any("no entry uses 'circuit' in its prose; add the wording to `forms`" in x for x in problems(folder))
        edit(folder, "heads/induction.yaml", definition="It is part of a Circuit.")
        assert problems(folder) == []
        put(folder, "glossary.yaml", glossary=[term | {"elsewhere": "In papers."}])
        assert any("glossary.0.elsewhere: entries use 'circuit'; drop the line" in x for x in problems(folder))

    def test_two_terms_do_not_share_a_wording(self, folder: Path) -> None:
        sources = {"definition": "D.", "elsewhere": "In papers.", "sources": ["lee2024heads"]}
        terms = [
            {"id": "circuit", "name": "Circuit", **sources},
            {"id": "x", "name": "X", "forms": ["circuit"], **sources},
        ]
        put(folder, "glossary.yaml", glossary=terms)
        assert any("glossary.1.forms: 'circuit' is also a form of circuit" in line for line in problems(folder))

    def test_a_type_beyond_the_survey_needs_no_listing(self, folder: Path) -> None:
        put(folder, "heads/echo.yaml", **head("echo", placed_by="headatlas", placed_why="So.", circuits=[]))
        assert problems(folder) == []

    @pytest.mark.parametrize("type", ["antagonist", "same-as-under-task"])
    def test_what_holds_both_ways_is_said_by_both(self, folder: Path, type: str) -> None:
        relation = {"type": type, "head": "previous-token", "source": "lee2024heads"}
        edit(folder, "heads/suppressor.yaml", relations=[relation], aliases=[])
        found = problems(folder)
        assert any("state it in heads/previous-token.yaml too" in line for line in found)
        assert any("antagonist suppressor is mutual; state it in heads/suppressor.yaml" in line for line in found)

    def test_a_shared_alias_says_whom_it_could_mean(self, folder: Path) -> None:
        edit(folder, "heads/suppressor.yaml", aliases=[{"name": "Copying heads", "source": "lee2024heads"}])
        assert any("aliases.0.also: 'Copying heads' also names induction" in line for line in problems(folder))
        edit(folder, "heads/suppressor.yaml", aliases=[])
        assert any("suppressor has no name 'copying head'; drop the id here" in line for line in problems(folder))

    @pytest.mark.parametrize("name", ["Previous-tokens head", "Token head", "Previous head"])
    def test_names_that_are_easily_mistaken_are_flagged(self, folder: Path, name: str) -> None:
        edit(folder, "heads/induction.yaml", name=name)
        assert not any("differ" in line for line in problems(folder))  # they are related, and the entry says how
        edit(folder, "heads/induction.yaml", relations=[], name=name)
        edit(folder, "heads/suppressor.yaml", relations=[])
        assert any("say how induction and previous-token differ" in line for line in problems(folder))
        edit(folder, "heads/previous-token.yaml", distinct_from=[{"head": "induction", "why": "It copies."}])
        assert not any("differ" in line for line in problems(folder))

    @pytest.mark.parametrize(
        "statement, words",
        [
            ("Both attend to the last token.", "Both"),
            ("They copy what they attend to.", "They"),
            ("Its output is small.", "Its"),
            ("These heads copy.", "These"),
            ("Removing it lowers accuracy.", "Removing it"),
            ("Of these eight heads seven copy.", "Of these"),
            ("The same procedure raises the rate.", "The same"),
            ("In the same file no head exceeds 0.02.", "In the same"),
            ("L0H1 leads on the same prompts.", "L0H1 leads on the same prompts"),
            ("The later version of that study speaks of others.", "The later version of that study"),
        ],
    )
    def test_a_statement_does_not_rest_on_another(self, folder: Path, statement: str, words: str) -> None:
        edit(folder, "heads/previous-token.yaml", findings=[finding("rests", statement=statement)])
        (found,) = problems(folder)
        assert found.startswith("catalog/heads/previous-token.yaml: findings.0.statement: rests says")
        assert words in found

    @pytest.mark.parametrize(
        "statement",
        [
            "L0H1 attends to the same token. It copies that token.",
            "L0H1 and L0H2 copy; both lie in the same layer.",
            "By their weights, backup heads attend less to copied names.",
            "When L0H1 is removed, the same head of the next layer takes over.",
            "Theseus heads copy.",
        ],
    )
    def test_a_statement_may_refer_to_its_own_words(self, folder: Path, statement: str) -> None:
        edit(folder, "heads/previous-token.yaml", findings=[finding("stands", statement=statement)])
        assert problems(folder) == []

    @pytest.mark.parametrize("change, field", [({"unit": "nats"}, "unit"), ({"counts_from": 1}, "counts_from")])
    def test_one_figure_of_one_source_is_the_same_everywhere(self, folder: Path, change: dict, field: str) -> None:
        figure = {"metric": "m", "value": 3.0, "unit": "heads"}
        edit(folder, "heads/induction.yaml", findings=[finding("one", **figure)], relations=[], aliases=[])
        edit(folder, "heads/suppressor.yaml", relations=[], aliases=[])
        edit(folder, "heads/previous-token.yaml", findings=[finding("two", **figure)])
        assert problems(folder) == []
        edit(folder, "heads/previous-token.yaml", findings=[finding("two", **(figure | change))])
        (found,) = problems(folder)
        assert f"findings.0.{field}: two differs from induction/one" in found

    def test_a_circuit_and_its_types_name_each_other(self, folder: Path) -> None:
        edit(folder, "circuits/pair.yaml", roles=[])
        assert any("circuits/pair.yaml: roles: induction lists this circuit" in line for line in problems(folder))

    def test_a_model_nothing_names_is_flagged(self, folder: Path) -> None:
        put(folder, "models/spare.yaml", id="spare", name="Spare", access="closed", architecture="decoder")
        assert any("models/spare.yaml: no entry names this model" in line for line in problems(folder))

    def test_errata_and_terms_lead_somewhere(self, folder: Path) -> None:
        said = {"text": "Something.", **CITE}
        put(folder, "errata.yaml", errata=[{"id": "a", "heads": ["nowhere"], "claim": said, "correction": said}])
        term = {"id": "circuit", "name": "C", "definition": "D.", "see": ["none"], "sources": ["lee2024heads"]}
        put(folder, "glossary.yaml", glossary=[term])
        assert any("errata.0.heads: there is no 'nowhere'" in line for line in problems(folder))
        assert any("glossary.0.see: 'none' is not a term" in line for line in problems(folder))


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"hub": None}, "needs `hub:` with its hub id, or `packages:`"),
        ({"licence": None}, "needs layers, heads, kv_heads, d_head and licence"),
        ({"revision": "main"}, "revision"),
        ({"access": "free"}, "access"),
    ],
)
def test_refuses_models_that_nobody_could_find(folder: Path, change: dict, complaint: str) -> None:
    edit(folder, "models/tiny.yaml", **change)
    assert any(complaint in line and "models/tiny.yaml" in line for line in problems(folder))


PACKAGES: dict[str, Any] = {
    "wheels": [{"name": "tiny-gguf", "version": "1.0", "size": 10, "files": [{"path": "t/t.gguf", "size": 20}]}],
    "file": "t.Q4_1.gguf",
    "sha256": "0" * 64,
    "quantisation": "Q4_1",
    "folder_size": 100,
    "terms": "https://example.org/terms",
    "must_accept": False,
}


class TestPackages:
    def test_a_model_in_packages_is_reachable_and_needs_no_entry_that_names_it(self, folder: Path) -> None:
        said = yaml.safe_load((folder / "models/tiny.yaml").read_text()) | {"id": "packaged", "packages": PACKAGES}
        said.pop("hub")
        put(folder, "models/packaged.yaml", **said)
        assert problems(folder) == []
        found = loading.model("packaged", folder)
        assert found and found.packages
        assert (found.packages.size, found.packages.download) == (20, 10)
        put(folder, "models/again.yaml", **(said | {"id": "again"}))
        assert any("packages.sha256: is that of again" in line for line in problems(folder))

    @pytest.mark.parametrize(
        "change, complaint",
        [
            ({"must_accept": True}, "`access:` of packages is gated where `must_accept: true`"),
            ({"file": "../t.gguf"}, "is not the name of a GGUF file"),
            ({"sha256": "abc"}, "packages.sha256"),
            ({"terms": "http://example.org"}, "packages.terms"),
            ({"wheels": []}, "packages.wheels"),
            ({"wheels": PACKAGES["wheels"] * 2}, "names the package tiny-gguf twice"),
            ({"wheels": [PACKAGES["wheels"][0] | {"name": "--index-url=x"}]}, "packages.wheels.0.name"),
            ({"wheels": [PACKAGES["wheels"][0] | {"version": ">=1"}]}, "packages.wheels.0.version"),
            ({"wheels": [PACKAGES["wheels"][0] | {"files": [{"path": "/etc/x", "size": 1}]}]}, "not a path inside"),
            ({"wheels": [PACKAGES["wheels"][0] | {"files": [{"path": "a/../../x", "size": 1}]}]}, "not a path inside"),
        ],
    )
    def test_refuses(self, folder: Path, change: dict, complaint: str) -> None:
        edit(folder, "models/tiny.yaml", packages=PACKAGES | change)
        assert any(complaint in line and "models/tiny.yaml" in line for line in problems(folder)), problems(folder)


def test_one_model_is_loaded_without_the_others(folder: Path) -> None:
    (folder / "models" / "broken.yaml").write_text("id: [")
    assert loading.model("tiny", folder) is not None
    assert [loading.model(id, folder) for id in ("none", "../models/tiny", "Tiny", "")] == [None] * 4
    with pytest.raises(CatalogError, match=r"models/broken.yaml"):
        loading.model("broken", folder)


class TestBibliography:
    @pytest.mark.parametrize(
        "more, complaint",
        [
            ("\n@article{zzz2020broken,\n title = {never closed\n", "catalog/references.bib: line"),
            (entry("zzz2020unused", "Else", "2001.00001"), "zzz2020unused: nothing in the catalog cites it"),
            (entry("zzz2024heads", "Else"), "has arXiv 2401.00001, like lee2024heads"),
            (entry("zzz2024heads", "HEADS!", "2001.00001"), "has the title 'heads', like lee2024heads"),
            (entry("aaa2024first", "Else", "2001.00001"), "comes after lee2024heads; keep the entries sorted"),
            (entry("lee2024heads", "Else", "2001.00001"), "catalog/references.bib: line"),
            ("@article{zzz2020x,\n title={T},\n author={A, B},\n year={2020},\n url={https://e.org}\n}\n",
             "@article needs journal"),
            ("@unpublished{zzz2020x,\n title={T}\n}\n", "@unpublished is not used here"),
            ("@misc{zzz2020x,\n title={T},\n author={A, B},\n year={2020}\n}\n", "needs doi, eprint or url"),
            ("@misc{Zzz,\n title={T},\n author={A, B},\n year={2020},\n url={https://e.org}\n}\n", "Zzz.key"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_said(self, folder: Path, more: str, complaint: str) -> None:
        path = folder / "references.bib"
        path.write_text(path.read_text() + more)
        assert any(complaint in line for line in problems(folder)), problems(folder)

    def test_a_key_without_an_entry_is_reported_where_it_is_used(self, folder: Path) -> None:
        (folder / "references.bib").write_text(entry("lee2024head"))
        found = problems(folder)
        assert any("heads/induction.yaml" in x and "did you mean 'lee2024head'?" in x for x in found)
        assert any("circuits/pair.yaml" in line for line in found) and any("glossary.yaml" in line for line in found)


def test_a_key_written_twice_is_an_error_and_not_the_last_one_wins(folder: Path) -> None:
    path = folder / "models" / "tiny.yaml"
    path.write_text(path.read_text() + "name: again\n")
    assert any("models/tiny.yaml" in line and "written twice" in line for line in problems(folder))


# --- any input at all ---------------------------------------------------------------------------------------------

_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = sorted(head("x"))
_QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=2000)


@_QUIET
@given(content=st.one_of(st.text(), st.binary()))
def test_no_text_crashes_the_loader(folder: Path, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (folder / "models" / "tiny.yaml").write_bytes(raw)
    assert any("models/tiny.yaml" in line for line in problems(folder))


@_QUIET
@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _ANYTHING, min_size=1, max_size=3))
def test_no_field_of_a_head_type_crashes_the_loader(folder: Path, fields: dict[str, Any]) -> None:
    (folder / "heads" / "induction.yaml").write_text(
        yaml.safe_dump(head("induction") | fields, allow_unicode=True), encoding="utf-8", errors="surrogatepass"
    )
    for line in problems(folder):
        assert line.startswith("catalog/") and "Traceback" not in line


@_QUIET
@given(content=st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_no_bibliography_crashes_the_loader(folder: Path, content: str) -> None:
    (folder / "references.bib").write_text(entry("lee2024heads") + content, encoding="utf-8")
    for line in problems(folder):
        assert line.startswith("catalog/")


# --- what BibTeX reads otherwise, or not at all -------------------------------------------------------------------

MACROS = '@string{nn = "Circuits"}\n@string(TWO = nn # { Two})\n'


def source(**fields: str) -> str:
    """An entry whose values stand as they are given."""
    values = {"title": "{Heads}", "author": "{Lee, Ann and Roe, Bo}", "year": "2024", "eprint": "{2401.00001}"} | fields
    lines = "".join(f"  {name} = {value},\n" for name, value in values.items())
    return f"@misc{{lee2024heads,\n{lines}}}\n"


class TestMacros:
    @pytest.mark.parametrize(
        "value, venue",
        [
            ("nn", "Circuits"),
            ("NN", "Circuits"),
            ('nn # " Thread"', "Circuits Thread"),
            ("{The } # nn # { in } # 2024", "The Circuits in 2024"),
            ("two", "Circuits Two"),
            ('"Heads of " # jan # {, } # nn', "Heads of January, Circuits"),
            ("{Plain {GPT-2}}", "Plain GPT-2"),
        ],
    )
    def test_venues_in_words_and_citations_that_need_no_macro(self, folder: Path, value: str, venue: str) -> None:
        (folder / "references.bib").write_text(MACROS + source(howpublished=value))
        assert problems(folder) == []
        catalog = headatlas.load(folder)
        assert catalog.references["lee2024heads"].venue == venue
        assert venue in catalog.references["lee2024heads"].text
        alone = catalog.bibtex(["lee2024heads"])
        assert "@string" not in alone
        (folder / "references.bib").write_text(alone)  # and alone it says the same
        assert problems(folder) == []
        again = headatlas.load(folder).references["lee2024heads"]
        assert again.model_dump() == catalog.references["lee2024heads"].model_dump()

    def test_what_needs_no_macro_stays_as_it_stands(self, folder: Path) -> None:
        text = source(month="jan", howpublished='"Two, " # feb')
        (folder / "references.bib").write_text(MACROS + text)
        assert headatlas.load(folder).bibtex() == text

    def test_the_expected_bibtex(self, folder: Path) -> None:
        (folder / "references.bib").write_text(MACROS + source(howpublished='two # ", " # jan # " 1"', month="jan"))
        assert headatlas.load(folder).bibtex() == (
            "@misc{lee2024heads,\n"
            "  title         = {Heads},\n"
            "  author        = {Lee, Ann and Roe, Bo},\n"
            "  year          = {2024},\n"
            "  eprint        = {2401.00001},\n"
            "  howpublished  = {Circuits Two, } # jan # { 1},\n"
            "  month         = jan,\n"
            "}\n"
        )

    @pytest.mark.parametrize(
        "text, complaint",
        [
            (source(howpublished="neurips"), "howpublished: the macro neurips is not defined"),
            (MACROS + source(howpublished="nn # else"), "the macro else is not defined"),
            ('@string{a = b}\n@string{b = a # "x"}\n' + source(howpublished="a"), "refers to itself"),
            ('@string{x="1"}\n@string{x="2"}\n' + source(), "line 2: not valid BibTeX (Duplicate entry key 'x')"),
            (source(howpublished="{A} {B}"), "a comma is missing before '{B}'"),
            (source(howpublished="{A}\n  note = {B}"), "a comma is missing before 'note = {B}'"),
            (source(howpublished="{A} #"), "has no value"),
            (source(howpublished=""), "howpublished: has no value"),
            (source(howpublished='"a { b"'), "never closes it"),
            (source(Title="{Twice}"), "title: is given twice"),
            (source(crossref="{other}"), "crossref: takes fields from another entry"),
            (source(xdata="{other}"), "xdata: takes fields from another entry"),
            (source(title="{Cats & dogs}"), "title: TeX stops at '&'; write \\&"),
            (source(title="{100% right}"), "TeX stops at '%'"),
            (source(title="{the b_1 head}"), "TeX stops at '_'"),
            ('@preamble{"\\newcommand{\\x}{y}"}\n' + source(), "line 1: citations do not contain @preamble"),
            (source() + "misc{roe2024lost,\n title = {T},\n}\n", "line 7: 'misc{roe2024lost, title = {T}, }' is"),
            (source() + "@ misc{roe2024lost, title = {T}}\n", "is outside any entry"),
            (source().replace("{Heads}", "{Heads}}"), "is outside any entry"),
            (source().replace("lee2024heads,", "lee2024heads"), "Expected comma after entry key"),
            (source() + "@misc{roe2024lost,\n title = {T}\n", "not valid BibTeX"),
        ],
    )
    def test_what_would_be_lost_is_named(self, folder: Path, text: str, complaint: str) -> None:
        (folder / "references.bib").write_text(text)
        found = problems(folder)
        assert any(complaint in line and ("catalog/references.bib: line" in line or "(line" in line) for line in found)

    @pytest.mark.parametrize(
        "text",
        [
            "@comment{a note = of @nobody{x}}\n" + source(),
            "% a note\n" + source() + "\na few words\n",
            source(title="{Cats \\& dogs, $b_1$ of 100\\%}"),
            source(title='"{{\\"u}ber} Heads"'),
            source(author="{Müller, Äne and Roe, Bo}"),
            source().replace("@misc{", "@MISC{"),
            "@misc(lee2024heads,\n title = {Heads},\n author = {Lee, A},\n year = 2024,\n eprint = {2401.1})\n",
        ],
    )
    def test_what_is_right_stays_valid(self, folder: Path, text: str) -> None:
        (folder / "references.bib").write_text(text, encoding="utf-8")
        assert problems(folder) == []

    def test_the_parser_does_not_talk_to_the_terminal(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        (folder / "references.bib").write_text(source().replace("lee2024heads,", "lee2024heads"))
        assert problems(folder) and not caplog.records


def test_every_shipped_citation_stands_alone() -> None:
    catalog = headatlas.load()
    for key, reference in catalog.references.items():
        assert "@string" not in reference.bibtex and reference.bibtex.count(key) >= 1
        assert reference.bibtex.count("{") == reference.bibtex.count("}"), key
