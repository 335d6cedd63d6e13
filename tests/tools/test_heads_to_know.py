"""The heads that a model's file singles out are those that its recorded runs select."""

import dataclasses

import pytest

from headatlas.catalog import links
from headatlas.notation import Head
from pages import entities
from site_pages import ATLAS

KNOWN = [(model, each) for model in ATLAS.catalog.models.values() for each in model.heads_to_know]


@pytest.mark.parametrize(("model", "each"), KNOWN, ids=[f"{model.id} {each.head}" for model, each in KNOWN])
def test_its_runs_select_them(model, each) -> None:  # type: ignore[no-untyped-def]
    for type in each.types:
        record = ATLAS.by_place[type, model.id].record
        assert each.head in record.selected and record.verdict.label in ("reproduced", "partly"), type


def test_they_stand_on_the_page_of_the_model() -> None:
    page = entities.model_pages(ATLAS, set(), {})["smollm2-135m-instruct"]
    assert "## Heads to know" in page and page.count('<li><code><a href="../../models/smollm2-135m-instruct/L') == 10


def test_a_head_or_a_type_that_is_not_there_is_said() -> None:
    model = ATLAS.catalog.models["smollm2-135m-instruct"]
    wrong = model.heads_to_know[0].model_copy(update={"types": ("inductoin",), "head": Head(30, 0)})
    models = type(ATLAS.catalog.models)({model.id: model.model_copy(update={"heads_to_know": (wrong,)})})
    catalog = dataclasses.replace(ATLAS.catalog, models=models)
    said = [problem.message for problem in links.check(catalog) if problem.file == f"models/{model.id}.yaml"]
    assert any("did you mean 'induction'" in each for each in said) and any("is not a head of" in each for each in said)
