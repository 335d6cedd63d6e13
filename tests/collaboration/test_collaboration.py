"""Edges between found heads: a planted circuit is found and nothing else, untrained heads do not work together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

import headatlas
from conftest import save_tiny
from headatlas import HeadatlasError, locations
from headatlas.cli.program import main
from headatlas.collaboration import drawing, found, measuring, schema
from headatlas.evidence import record_files, record_parts, records
from headatlas.lab import OpenModel, open_model
from headatlas.notation import Head
from headatlas.pages.figures.circuit import Arrow, CircuitPart, published_picture
from headatlas.pages.figures.collaboration import Link, Node, measured_picture, side_by_side
from headatlas.protocol.provenance import model_record

CATALOG = headatlas.load()
FEW = measuring.STANDARD.model_copy(update={"prompts": 6, "sets": 4, "others": 20})
HOSTILE = "<script>alert('x')</script>\"&"
Circuit = tuple[Path, Head, Head]


def recorded(folder: Path, model: OpenModel, types: Mapping[str, Sequence[Head]], sha256: str | None = None) -> Path:
    """Records that say these heads were found; the rest of each is that of the specimen."""
    for type, heads in types.items():
        like = record_files.read(locations.records() / "specimen" / "induction.json")
        assert like.detection
        grid = record_parts.grid(np.zeros((model.anatomy.layers, model.anatomy.heads)))
        kinds = ("find", "find_control", "q", "score", "low", "high", "control", "sink_normalised")
        about = model_record(model, None)
        record_files.write(
            like.model_copy(
                update={
                    "entry": like.entry.model_copy(update={"id": type}),
                    "model": about.model_copy(update={"sha256": sha256 or about.sha256}),
                    "detection": like.detection.model_copy(
                        update=dict.fromkeys(kinds, grid) | {"selected": [*map(str, heads)]}
                    ),
                    "verdict": records.Verdict(label="reproduced" if heads else "not-reproduced", reasons=[]),
                }
            ),
            folder,
        )
    return folder


@pytest.fixture(scope="module")
def collaboration(
    planted_circuit: Circuit, tmp_path_factory: pytest.TempPathFactory
) -> tuple[schema.Collaboration, Head, Head]:
    """Of a planted circuit, with one wrong head among those of each type."""
    folder, previous, induction = planted_circuit
    model = open_model(str(folder))
    types = {"previous-token": [previous, Head(2, 0)], "induction": [Head(4, 2), induction], "inhibition": []}
    where = recorded(tmp_path_factory.mktemp("records"), model, types)
    return measuring.collaborate(CATALOG, model, where, FEW), previous, induction


class TestPlanted:
    def test_the_planted_edge_stands_and_no_other(self, collaboration: tuple[schema.Collaboration, Head, Head]) -> None:
        record, previous, induction = collaboration
        edge = next(each for each in record.circuits if each.id == "induction").edges[0]
        assert (edge.sender, edge.receiver, edge.via) == ("previous-token", "induction", "K")
        tried = {(pair.sender, pair.receiver) for pair in edge.pairs}
        assert len(tried) == len(edge.pairs) == sum(a.layer < b.layer for a in (previous, Head(2, 0))
                                                    for b in (Head(4, 2), induction))  # fmt: skip
        (planted,) = [pair for pair in edge.pairs if pair.patched.stands]
        assert (planted.sender, planted.receiver) == (str(previous), str(induction))
        assert planted.patched.effect > 0.8 and planted.patched.share_exceeded == 100
        (aligned,) = [pair for pair in edge.pairs if pair.composition.q <= 0.05]
        assert aligned is planted and planted.composition.percentile == 100
        assert edge.measure and edge.measure.of == "attention" and edge.measure.n == 6

    def test_the_planted_pair_is_the_strongest_of_the_graph(
        self, collaboration: tuple[schema.Collaboration, Head, Head]
    ) -> None:
        record, previous, induction = collaboration
        edge, *others = record.graph.edges
        assert (edge.sender, edge.receiver, edge.via) == (str(previous), str(induction), "K")
        assert edge.composition.q < 1e-12
        assert len(others) <= 1 and all(each.composition.q > 1e-3 for each in others), "one may exceed by chance"
        heads = [previous, Head(2, 0), Head(4, 2), induction]
        assert record.graph.tested == 3 * sum(a.layer < b.layer for a in heads for b in heads)

    def test_what_was_not_found_is_said_and_not_measured(
        self, collaboration: tuple[schema.Collaboration, Head, Head]
    ) -> None:
        ioi = next(each for each in collaboration[0].circuits if each.id == "ioi")
        missing = {each.type: each.why for each in ioi.missing}
        assert missing["inhibition"] == "not found in this model (not-reproduced)"
        assert missing["name-mover"] == "never run on this model" and "induction" not in missing
        for edge in ioi.edges:
            here = {edge.sender, edge.receiver} <= {"previous-token", "induction"}
            assert bool(edge.pairs) == here and (edge.why_not is None) == here
        assert len(ioi.edges) == len(CATALOG.circuits["ioi"].edges)


@pytest.mark.slow
def test_untrained_heads_do_not_work_together(tmp_path: Path) -> None:
    tested, exceeding, pairs, standing = 0, 0, 0, 0
    for family in ("gpt2", "llama"):
        for seed in range(4):
            model = open_model(str(save_tiny(family, tmp_path / f"{family}-{seed}", seed)))
            types = {"previous-token": [Head(0, 0), Head(0, 2)], "induction": [Head(1, each) for each in range(4)]}
            record = measuring.collaborate(
                CATALOG, model, recorded(tmp_path / f"records-{family}-{seed}", model, types)
            )
            tested, exceeding = tested + record.graph.tested, exceeding + len(record.graph.edges)
            edge = next(each for each in record.circuits if each.id == "induction").edges[0]
            pairs, standing = pairs + len(edge.pairs), standing + sum(pair.patched.stands for pair in edge.pairs)
    assert tested == 8 * 24 and exceeding <= 0.05 * tested
    assert pairs == 8 * 8 and standing <= 0.05 * pairs


@pytest.mark.slow
def test_a_path_into_values_is_read_from_the_behaviour(specimen: OpenModel, tmp_path: Path) -> None:
    """Where the catalog does not say what of the receiver, each of Q, K and V is measured."""
    published = CATALOG.circuits["induction"]
    edges = tuple(edge.model_copy(update={"via": None}) for edge in published.edges)
    catalog = replace(CATALOG, circuits={"induction": published.model_copy(update={"edges": edges})})
    where = recorded(tmp_path, specimen, {"previous-token": [Head(3, 5)], "induction": [Head(4, 6), Head(1, 0)]})
    record = measuring.collaborate(catalog, specimen, where, FEW)
    q, k, v = record.circuits[0].edges
    assert [each.via for each in (q, k, v)] == ["Q", "K", "V"] and {each.published_via for each in (q, k, v)} == {None}
    assert [each.measure.of for each in (q, k, v) if each.measure] == ["attention", "attention", "behaviour"]
    assert all([(p.sender, p.receiver) for p in each.pairs] == [("L3H5", "L4H6")] for each in (q, k, v))
    assert k.pairs[0].patched.effect > 10 * abs(q.pairs[0].patched.effect)
    assert k.pairs[0].patched.stands and not v.pairs[0].patched.stands


def test_heads_in_the_wrong_order_have_no_edge(specimen: OpenModel, tmp_path: Path) -> None:
    where = recorded(tmp_path, specimen, {"previous-token": [Head(4, 0)], "induction": [Head(4, 1), Head(2, 0)]})
    record = measuring.collaborate(CATALOG, specimen, where, FEW)
    edge = next(each for each in record.circuits if each.id == "induction").edges[0]
    assert edge.why_not == "no previous-token head lies before a induction head" and not edge.pairs


class TestMistakes:
    def test_no_records(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["collaborate", "specimen", "--records", str(tmp_path), "--out", str(tmp_path / "out")]
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"no records of specimen in {tmp_path}; `headatlas run --all" in said

    def test_records_of_other_weights(self, specimen: OpenModel, tmp_path: Path) -> None:
        recorded(tmp_path, specimen, {"induction": [Head(3, 6)]}, sha256="0" * 64)
        with pytest.raises(
            HeadatlasError, match="belongs to another model than specimen \\(different weights\\); run it again"
        ):
            found.found_in(tmp_path, model_record(specimen, "specimen"), 5)

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text("{}")
        with pytest.raises(HeadatlasError, match="not a collaboration of schema 1"):
            schema.read(tmp_path / "x.json")


SHIPPED = sorted(locations.collaborations().glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestShipped:
    def test_is_valid_by_the_published_schema(self, path: Path) -> None:
        published = json.loads((locations.catalog() / "schema" / "collaboration.json").read_text())
        validator = jsonschema.Draft202012Validator(published)
        assert [each.message for each in validator.iter_errors(json.loads(path.read_text()))] == []

    def test_is_of_the_records_that_ship(self, path: Path) -> None:
        record = schema.read(path)
        here = found.found_in(locations.records(), record.model, record.settings.heads)
        kept = {each.id: each.record_sha256 for each in record.types}
        now = {each.id: each.record_sha256 for each in here.types.values()}
        assert kept | now == kept, f"{path} is older than the records; run make collaborate MODELS={record.model.id}"
        for id in kept.keys() - now.keys():  # made before heads had to hold on new prompts: none of its heads does
            recorded = record_files.read(locations.records() / record.model.id / f"{id}.json").detection
            assert recorded and recorded.did_not_hold and not recorded.selected

    def test_its_pictures_hold_every_edge(self, path: Path) -> None:
        record = schema.read(path)
        for circuit in record.circuits:
            picture = ElementTree.fromstring(drawing.circuit_picture(CATALOG, record, circuit))
            pairs = [(pair.sender, pair.receiver) for edge in circuit.edges for pair in edge.pairs]
            drawn = [each.findtext("title") or "" for each in picture.iter("path") if each.get("class") == "atlas-edge"]
            assert len(drawn) == len(pairs)
            for sender, receiver in pairs:
                assert any(said.startswith(f"{sender} to the ") and f" of {receiver}: " in said for said in drawn)
        graph = ElementTree.fromstring(drawing.graph_picture(CATALOG, record))
        edges = [each for each in graph.iter("path") if each.get("class") == "atlas-edge"]
        assert len(edges) == min(len(record.graph.edges), drawing.SHOWN)


NODES = [
    Node("L0H1", 0, ("previous-token",), "ICI"),
    Node("L1H2", 1, (), ""),
    Node("L3H4", 3, ("induction", "mover"), "LR"),
]


class TestPictures:
    def test_every_edge_has_its_width_and_numbers(self) -> None:
        links = [
            Link("L0H1", "L3H4", "K", 1.0, True, "falls by 0.9"),
            Link("L1H2", "L3H4", "V", 0.0, False, "falls by 0.0"),
        ]
        picture = ElementTree.fromstring(measured_picture(NODES, links, "a picture", ["widest: all"]))
        strong, faint = sorted(
            (each for each in picture.iter("path")), key=lambda each: -float(each.get("stroke-width", "0"))
        )
        assert strong.findtext("title") == "L0H1 to the keys of L3H4: falls by 0.9"
        assert not strong.get("stroke-dasharray") and faint.get("stroke-dasharray")
        assert float(strong.get("stroke-width", "0")) > 4 * float(faint.get("stroke-width", "0"))
        description = picture.findtext("desc") or ""
        assert "falls by 0.9" in description and "L1H2 to the values of L3H4" in description
        assert picture.get("role") == "img" and picture.get("aria-label") == "a picture"
        texts = [each.text for each in picture.iter("text")]
        assert {"L0H1", "L1H2", "L3H4", "layer 0", "layer 3", "widest: all"} <= set(texts)

    def test_lines_pass_between_heads_not_behind_them(self) -> None:
        """Where a line crosses a layer it lies as high as no head of that layer."""
        many = [Node(f"L{layer}H{head}", layer, ("x",), "KR") for layer in range(3) for head in range(4)]
        links = [Link("L0H1", f"L2H{head}", "K", 0.5, True, "") for head in range(4)]
        picture = ElementTree.fromstring(measured_picture(many, links, "t"))
        boxes = [each for each in picture.iter("rect") if each.get("stroke")]
        xs = sorted({float(each.get("x", "0")) for each in boxes})
        for path in picture.iter("path"):
            height = float((path.get("d") or "").split("h")[0].split()[-1])
            for box in boxes:
                top = float(box.get("y", "0"))
                if float(box.get("x", "0")) == xs[1]:
                    assert not top < height < top + float(box.get("height", "0"))

    def test_hostile_names_stay_text(self) -> None:
        nodes = [Node(HOSTILE, 0, (HOSTILE,), HOSTILE), Node("L1H0", 1, (HOSTILE,), "KR")]
        measured = measured_picture(nodes, [Link(HOSTILE, "L1H0", "Q", 2.0, True, HOSTILE)], HOSTILE, [HOSTILE])
        parts = [
            CircuitPart(HOSTILE, HOSTILE, (HOSTILE,) * 9, HOSTILE, True),
            CircuitPart("b", "KR", (), HOSTILE, False),
        ]
        published = published_picture(parts, [Arrow(HOSTILE, "b", ("Q",), HOSTILE)], HOSTILE)
        whole = side_by_side({HOSTILE: measured, "x": published})
        tree = ElementTree.fromstring(whole)
        assert not list(tree.iter("script")) and "<script" not in whole
        assert tree.find(".//svg").get("aria-label") == HOSTILE  # type: ignore[union-attr]

    def test_published_types_that_were_not_found_are_grey_and_say_so(self) -> None:
        parts = [
            CircuitPart("previous-token", "ICI", ("L2H2",), "GPT-2 small, Wang", True),
            CircuitPart("induction", "LR", ("L5H5",), "GPT-2 small, Wang", False),
        ]
        arrows = [Arrow("previous-token", "induction", ("K",), "Section 3.3")]
        picture = ElementTree.fromstring(published_picture(parts, arrows, "published"))
        texts = [each.text for each in picture.iter("text")]
        assert {"L2H2", "L5H5", "not found in this model", "K"} <= set(texts)
        assert texts.count("not found in this model") == 1
        boxes = {each.get("stroke"): each for each in picture.iter("rect") if each.get("stroke")}
        assert boxes["currentColor"].get("stroke-dasharray") and len(boxes) == 2
        assert "previous-token to the keys of induction (Section 3.3)" in (picture.findtext("desc") or "")

    def test_published_circles_end(self) -> None:
        parts = [CircuitPart(name, "KR", (), "", True) for name in "ab"]
        both = [Arrow("a", "b", (), ""), Arrow("b", "a", (), ""), Arrow("a", "a", (), "")]
        assert len(list(ElementTree.fromstring(published_picture(parts, both, "t")).iter("g"))) == 5

    def test_edges_to_what_is_not_drawn_are_mistakes(self) -> None:
        with pytest.raises(ValueError, match="not drawn"):
            measured_picture(NODES, [Link("L0H1", "L9H9", "K", 1.0, True, "")], "t")
        with pytest.raises(ValueError, match="later layer"):
            measured_picture(NODES, [Link("L3H4", "L0H1", "K", 1.0, True, "")], "t")
        with pytest.raises(ValueError, match="not drawn"):
            published_picture([CircuitPart("a", "KR", (), "", True)], [Arrow("a", "b", (), "")], "t")

    def test_nothing_to_draw(self) -> None:
        assert ElementTree.fromstring(measured_picture((), (), "t")).findtext("desc") == "no edge"
