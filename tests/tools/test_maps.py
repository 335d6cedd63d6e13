"""What is behind the map of a model and the pages of its heads, on a catalog and a census small enough to count."""

import json
import re
from dataclasses import replace

import jsonschema
import pytest

import small_site
from headatlas import locations
from headatlas.census.schema import Census
from headatlas.notation import Head
from pages import map_view, named_heads
from pages.atlas import Atlas
from pages.maps import ModelMap, model_maps
from pages.render import page
from site_pages import ATLAS, CATALOG


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return small_site.atlas(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def census() -> Census:
    return small_site.tiny_census()


@pytest.fixture(scope="module")
def tiny(atlas: Atlas, census: Census) -> ModelMap:
    return model_maps(atlas.catalog, [], [census])["tiny"]


@pytest.fixture(scope="module")
def shipped() -> dict[str, ModelMap]:
    return model_maps(CATALOG, ATLAS.results, [])


@pytest.fixture(scope="module")
def drawn(atlas: Atlas, tiny: ModelMap) -> str:
    return page("map.html", atlas=atlas, map=map_view.view(atlas, tiny), root="../../")


@pytest.fixture(scope="module")
def pages(atlas: Atlas, tiny: ModelMap, census: Census) -> dict[str, named_heads.HeadPage]:
    return {each.sheet.head: each for each in named_heads.head_pages(atlas, {"tiny": tiny}, [census])}


def names(map: ModelMap) -> dict[str, list[str]]:
    return {str(head): [name.type.id for name in each.names] for head, each in map.named.items()}


def test_papers_and_measurement_name_heads_side_by_side(tiny: ModelMap) -> None:
    assert names(tiny) == {
        "L0H0": ["previous-token"],
        "L0H3": ["induction"],
        "L1H0": ["induction", "suppressor"],
        "L1H1": ["induction"],
        "L1H2": ["induction"],
    }
    assert [str(each.head) for each in tiny.published] == ["L1H0", "L1H1", "L1H2"]
    assert [str(each.head) for each in tiny.found] == ["L0H0", "L0H3", "L1H0"]
    both = {name.type.id: (name.papers is not None, name.measured) for name in tiny.named[Head(1, 0)].names}
    assert both == {"induction": (True, True), "suppressor": (True, False)}
    assert [name.contradicted for name in tiny.named[Head(1, 0)].names] == [False, True]
    assert (tiny.total, tiny.columns, tiny.source) == (8, 4, "census")


def test_agreement_counts_types_that_have_both(tiny: ModelMap) -> None:
    found = tiny.agreement
    assert found is not None
    # previous-token has no published head here, and suppressor was not measured: only induction counts.
    assert (found.types, found.published, found.found, found.new, found.missing) == (1, 3, 1, 1, 2)
    assert found.chance == pytest.approx(3 * 2 / 8)


def test_a_name_that_only_dissent_mentions_is_not_one_to_find(atlas: Atlas) -> None:
    map = model_maps(atlas.catalog, [], [])["tiny"]
    assert map.agreement is None and map.source is None and not map.found
    (name,) = [name for name in map.named[Head(1, 0)].names if name.type.id == "suppressor"]
    assert name.papers is not None and not name.papers.findings and name.contradicted
    suppressor = replace(map, measured={"suppressor": frozenset({Head(1, 0)})})
    assert suppressor.agreement is None


def test_causes_come_first_and_dissent_last(shipped: dict[str, ModelMap]) -> None:
    heads = [each for map in shipped.values() for each in map.named.values()]
    for each in heads:
        ranks = [
            (
                name.papers is None,
                not name.papers.findings if name.papers else True,
                not any(f.kind in ("causal", "mechanistic") for f in name.papers.findings) if name.papers else True,
            )
            for name in each.names
        ]
        assert ranks == sorted(ranks), each.head
    assert shipped["gpt2"].named[Head(10, 7)].names[0].type.id == "copy-suppression"


def test_every_head_that_the_catalog_names_is_on_a_map(shipped: dict[str, ModelMap]) -> None:
    for id, model in CATALOG.models.items():
        said = {f.heads for type in CATALOG.heads.values() for f in type.findings if f.model == id}
        wanted = {head for heads in said for head in heads}
        map = shipped.get(id)
        mine = {head for head, each in map.named.items() if each.papers} if map else set()
        assert wanted <= mine, id
        for head in mine:
            assert {name.type.id for name in map.named[head].papers} == {
                naming.head_type.id for naming in CATALOG.who(id, head)
            }
        if map and model.layers and model.heads:
            assert all(head.layer < model.layers and head.head < model.heads for head in map.named)


def test_gpt2_and_smollm2_have_their_names(shipped: dict[str, ModelMap]) -> None:
    gpt2, smollm2 = shipped["gpt2"], shipped["smollm2-135m-instruct"]
    assert gpt2.total == 144 and len([each for each in gpt2.published if each.papers]) >= 79
    assert sum(len(each.papers) for each in gpt2.published) >= 158
    assert (smollm2.total, smollm2.source) == (270, "runs")
    records = [result.record for result in ATLAS.runs_on("smollm2-135m-instruct")]
    found = {head for record in records if record.verdict.label in ("reproduced", "partly") for head in record.selected}
    assert {each.head for each in smollm2.found} == found and not smollm2.published


def test_toy_models_have_no_map(shipped: dict[str, ModelMap]) -> None:
    assert "toy" in ATLAS.models_run and "toy" not in shipped


class TestTheMap:
    def test_it_counts(self, drawn: str) -> None:
        assert "Papers give 4 names to 3 of the 8 heads of this model." in drawn
        assert "In our census 3 of 8 heads have 3 names." in drawn
        assert "1 of 3 published heads found, 0.8 expected by chance; 1 agree, 1 new, 2 missing" in drawn
        assert "nobody has named it: 3 heads" in drawn and "5 of 8 heads" in drawn

    def test_it_is_a_picture_with_links_without_scripts(self, drawn: str) -> None:
        squares = dict(re.findall(r'<a id="(L\d+H\d+)" href="L\d+H\d+/"(.*?)</a>', drawn))
        assert list(squares) == ["L0H0", "L0H3", "L1H0", "L1H1", "L1H2"]
        assert drawn.count("<td></td>") == 3
        papers = {head for head, square in squares.items() if "atlas-map-papers" in square}
        assert papers == {"L1H0", "L1H1", "L1H2"}
        assert {head for head, square in squares.items() if "<b>" in square} == {"L0H0", "L0H3", "L1H0"}
        assert {head for head, square in squares.items() if "atlas-map-dashed" in square} == {"L1H0"}
        said = re.search('aria-label="([^"]*)"', squares["L1H0"])
        assert said
        text = re.sub("&#(\\d+);", lambda sign: chr(int(sign[1])), said[1])
        assert text == "L1H0. papers: induction, suppressor (contradicted). measured here: induction"

    def test_its_script_has_the_same_names(self, drawn: str) -> None:
        (text,) = re.findall(r'<script type="application/json">(.*?)</script>', drawn)
        data = json.loads(text)
        ids = [id for id, _, _ in data["types"]]
        induction, suppressor = ids.index("induction"), ids.index("suppressor")
        assert data["heads"]["L1H0"] == [
            [induction, ["causal supports"], 1, 1],
            [suppressor, ["causal contradicts"], 1, 0],
        ]
        assert data["heads"]["L0H3"] == [induction]
        assert data["types"][induction] == ["induction", "Induction head", "lr"]


class TestSheets:
    def test_reported_and_measured_are_apart(self, pages: dict[str, named_heads.HeadPage]) -> None:
        sheet = pages["L1H0"].sheet
        assert [(name.type, len(name.findings), len(name.disputing)) for name in sheet.names] == [
            ("induction", 1, 0),
            ("suppressor", 0, 1),
        ]
        assert [(score.type, score.outcome, score.score) for score in sheet.measured] == [("induction", "named", 0.95)]
        assert [(part.circuit, part.type) for part in sheet.circuits] == [("pair", "induction")]

    def test_a_published_head_that_was_not_found_has_its_score(self, pages: dict[str, named_heads.HeadPage]) -> None:
        (score,) = pages["L1H1"].sheet.measured
        assert (score.type, score.outcome, score.score, score.held_out) == ("induction", "not found", 0.0, False)

    def test_a_head_that_only_we_name_says_so(self, atlas: Atlas, pages: dict[str, named_heads.HeadPage]) -> None:
        made = named_heads.html(atlas, pages["L0H3"])
        assert "No paper names this head" in made and "Measured by us" in made and "What papers report" not in made

    def test_the_answer_comes_first(self, atlas: Atlas, pages: dict[str, named_heads.HeadPage]) -> None:
        made = named_heads.html(atlas, pages["L1H0"])
        assert re.search('Named <a href="#induction">induction head</a> by Lee and Roe 2024; also', made)
        assert "2 names, 1 source, 1 contradicts" in made
        assert 'rel="prev" href="../L0H3/"' in made and 'rel="next" href="../L1H1/"' in made
        assert 'href="../../../heads/induction/#first"' in made and "neuronpedia" not in made

    def test_the_data_keep_to_the_schema(self, pages: dict[str, named_heads.HeadPage]) -> None:
        schema = json.loads((locations.catalog() / "schema" / "named_head.json").read_text())
        validator = jsonschema.Draft202012Validator(schema)
        for each in pages.values():
            validator.validate(json.loads(each.sheet.model_dump_json()))


def test_neighbours_in_a_circuit_are_those_of_its_edges(shipped: dict[str, ModelMap]) -> None:
    every = named_heads.head_pages(ATLAS, {"gpt2": shipped["gpt2"]}, [])
    (induction,) = [each.sheet for each in every if each.sheet.head == "L5H5"]
    (part,) = [part for part in induction.circuits if part.circuit == "ioi"]
    neighbours = {(each.type, each.direction): each.heads for each in part.neighbours}
    senders = [heads for (type, way), heads in neighbours.items() if way == "sends to this head"]
    assert ["L2H2", "L4H11"] in senders


def test_the_link_to_neuronpedia_is_for_known_models(shipped: dict[str, ModelMap]) -> None:
    maps = {id: shipped[id] for id in ("gpt2", "gpt2-medium")}
    made = {(each.sheet.model, each.sheet.head): each for each in named_heads.head_pages(ATLAS, maps, [])}
    assert "https://www.neuronpedia.org/gpt2-small/head/10/7" in named_heads.html(ATLAS, made["gpt2", "L10H7"])
    assert not any("neuronpedia.org" in named_heads.html(ATLAS, each) for key, each in made.items() if key[0] != "gpt2")
