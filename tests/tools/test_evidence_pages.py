"""What a head's page shows first: the claim, why the verdict, and which findings; and the data of the explorer."""

import csv
import io
import re

import pytest

from headatlas.catalog.exporting import export
from headatlas.catalog.schema import Expectation
from pages import claims, evidence, runs
from pages.explorer import COLUMNS, explorer_data
from pages.heads import head_page
from site_pages import ATLAS, CATALOG

HEADS = pytest.mark.parametrize("head", CATALOG.heads.values(), ids=list(CATALOG.heads))


# --- the claim ------------------------------------------------------------------------------------------------


def test_sections_of_a_docstring_end_where_the_next_begins() -> None:
    said = (
        "Title.\n\nClaim      One thing,\n           and more  of it.\nScore      A number.\n\nClaims nothing\n  here."
    )
    assert claims.sections(said) == {"Claim": "One thing, and more of it.", "Score": "A number."}


@HEADS
def test_every_script_has_a_claim_on_its_page_and_the_keys_are_links(head) -> None:
    said = claims.claim(head.id)
    assert bool(said) == (head.rule is not None)
    shown = claims.with_links(said, CATALOG, "../../")
    for key in re.findall(r"\b[a-z]+\d{4}[a-z0-9]*\b", said):
        assert (f'href="../../papers/{key}/"' in shown) == (key in CATALOG.references)
    page = head_page(ATLAS, head)
    assert str(shown) in page and ("Claim tested" in page) == bool(said)


def test_a_claim_is_escaped_and_keeps_its_spaces() -> None:
    shown = claims.with_links("A <b> (olsson2022incontext; nobody1999) end", CATALOG, "")
    assert shown.startswith("A &#60;b&#62; (<a href") and shown.endswith("</a>; nobody1999) end")
    assert claims.plain("(olsson2022incontext)", CATALOG) == "(Olsson et al. 2022)"


# --- why a verdict --------------------------------------------------------------------------------------------


def test_the_three_signs_agree_with_the_verdict() -> None:
    for result in ATLAS.results:
        record, signs = result.record, runs.why(result.record)
        if record.verdict.label in ("reproduced", "partly"):
            assert signs["behaviour"] == signs["detection"] == "yes"
            assert record.verdict.label == "partly" or signs["cause"] == "yes"
        if record.verdict.label == "not-reproduced":
            assert signs == {"behaviour": "yes", "detection": "no", "cause": "not tested"}
        if record.verdict.label == "inconclusive":
            assert signs["behaviour"] != "yes" or signs["detection"] == "not decided"


def test_inconclusive_beside_another_expectation_is_not_decided() -> None:
    record = next(each.record for each in ATLAS.results if each.record.verdict.label == "inconclusive")
    for verdict, said in (("inconclusive", "as expected"), ("reproduced", "not decided")):
        assert runs.as_expected(Expectation(model="specimen", verdict=verdict, why="so"), record) == said
    found = next(each.record for each in ATLAS.results if each.record.verdict.label == "partly")
    assert runs.as_expected(Expectation(model="specimen", verdict="reproduced", why="so"), found) == "not as expected"
    assert runs.as_expected(None, found) == ""


@HEADS
def test_the_card_counts_teaching_models_together(head) -> None:
    small = [each for each in ATLAS.runs_of(head.id) if each.record.model.id not in ATLAS.leading]
    card = runs.card(ATLAS, head, small, "")
    labels = [each.record.verdict.label for each in small]
    assert (card["reproduced"], card["small"]) == (labels.count("reproduced"), len(labels))
    assert card["decided"] == len(labels) - labels.count("inconclusive")
    shown = [each["result"].record.model.id for each in card["large"]] + card["not_run"]
    assert sorted(shown) == (sorted(ATLAS.leading) if head.rule else [])
    assert not set(card["not_rerun"]) & {each.record.model.catalog_id for each in ATLAS.runs_of(head.id)}


def test_an_effect_says_how_many_random_sets_it_exceeds() -> None:
    cause = next(each.record.cause for each in ATLAS.results if each.record.cause and each.record.cause.passed)
    told = cause.model_copy(
        update={"effect": 0.3727, "low": 0.2, "high": 0.5, "share_exceeded": 100.0, "direction": "decrease"}
    )
    assert runs.effect(told) == f"decrease by 0.37 [0.20, 0.50], more than all {len(cause.random_effects)} random sets"
    assert "more than 97.5% of" in runs.effect(told.model_copy(update={"share_exceeded": 97.5}))
    assert runs.effect(told.model_copy(update={"planned_sets": 3})).startswith("not told: only")
    assert runs.effect(None) == ""


# --- which findings are cards ---------------------------------------------------------------------------------


@HEADS
def test_each_finding_is_shown_once_and_dissent_is_never_folded(head) -> None:
    shown = evidence.shown(head)
    own = [each.id for each in head.findings if each.published_list is None]
    assert sorted(each.id for part in shown for each in part) == sorted(own)
    assert {each.stance for each in shown.strongest} <= {"supports"} and len(shown.strongest) <= evidence.STRONGEST
    disputed = {id for each in head.controversies for id in each.findings}
    for finding in shown.more:
        assert finding.stance != "contradicts"
        assert finding.stance == "supports" or finding.id not in disputed
    page = head_page(ATLAS, head)
    before, _, after = page.partition('id="more-findings"')
    assert all(f'id="{each.id}"' in before for each in (*shown.strongest, *shown.dissenting))
    assert all(f'id="{each.id}"' in after for each in shown.more)
    assert page.index("## Evidence") > page.index("## How it works") and "## How it is" in page[page.index("## Ev") :]


def test_causal_evidence_read_in_the_source_comes_first_and_one_paper_does_not_take_all() -> None:
    head = CATALOG.heads["induction"]
    first = next(each for each in head.findings if each.published_list is None and each.stance == "supports")
    plain = {"heads": (), "scores": {}, "value": None, "metric": None, "n": None, "formula": None, "unit": None}
    plain |= {"bound": None, "of": None, "error": None, "tolerance": None, "kind": "causal", "checked": "primary"}

    def made(id: str, **more: object):
        return first.model_copy(update=plain | {"id": id} | more)

    findings = [
        made("talk", kind="behavioural"),
        made("read-elsewhere", checked="secondary", source="elhage2021mathematical"),
        *(made(f"same-{number}") for number in range(4)),
        made("other-paper", source="wang2023interpretability"),
        made("measured", metric="m", value=1.0, source="wang2023interpretability"),
    ]
    shown = evidence.shown(head.model_copy(update={"findings": tuple(findings), "controversies": ()}))
    assert [each.id for each in shown.strongest] == ["measured", "same-0", "same-1", "other-paper", "read-elsewhere"]
    assert [each.id for each in shown.more] == ["talk", "same-2", "same-3"]


# --- the explorer ---------------------------------------------------------------------------------------------


def test_the_explorer_has_every_finding_in_the_order_of_the_csv() -> None:
    data = explorer_data(ATLAS)
    rows = list(csv.DictReader(io.StringIO(export(CATALOG, "csv"))))
    assert len(data["findings"]) == len(rows) == len(CATALOG.findings())
    for cells, row in zip(data["findings"], rows, strict=True):
        found = dict(zip(COLUMNS, cells, strict=True))
        assert (data["types"][found["type"]][0], found["id"]) == (row["type"], row["id"])
        assert data["papers"][found["paper"]][0] == row["source"]
        assert [data[name][found[name]] for name in ("stance", "kind", "checked")] == [
            row[name] for name in ("stance", "kind", "checked")
        ]
        assert ("" if found["model"] is None else data["models"][found["model"]][0]) == row["model"]
        assert [head.split("=")[0] for head in found["heads"].split()] == row["heads"].split()
