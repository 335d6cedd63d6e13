"""From parts to names, and from names to pages, tables, other tools' formats and comparisons."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from headatlas import locations
from headatlas.census import cache, comparing, exchange, labelling, page, reading
from headatlas.census.cache import Plan
from headatlas.census.schema import Census
from headatlas.census.summary import common_types
from headatlas.cli.commands.compare import HEAD_FORMATS
from headatlas.cli.program import main
from headatlas.cli.terminal import census_view
from headatlas.errors import HeadatlasError
from headatlas.evidence import files
from made_census import CATALOG, cause, census, model_record, part, settings

Capture = pytest.CaptureFixture[str]
MODEL = model_record(3, 4, kv_heads=2)


def labels(found: Census) -> dict[str, list[str]]:
    return {head.head: [each.type for each in head.labels] for head in found.heads if head.labels}


class TestLabels:
    def test_a_head_may_have_several_and_most_have_none(self) -> None:
        found = census(
            MODEL,
            part("induction", MODEL, {"L1H2": (0.9, 1e-9), "L2H3": (0.8, 1e-9)}),
            part("previous-token", MODEL, {"L1H2": (0.7, 1e-9)}),
        )
        assert labels(found) == {"L1H2": ["previous-token", "induction"], "L2H3": ["induction"]}
        assert (found.summary.labelled, found.summary.unknown) == (2, 10)
        assert found.summary.unknown_share == pytest.approx(10 / 12)

    def test_the_name_that_the_fewest_heads_carry_comes_first(self) -> None:
        sink = {f"L{layer}H{head}": (0.9, 1e-9) for layer in range(3) for head in range(4)}
        found = census(
            MODEL,
            part("attention-sink", MODEL, sink),
            part("induction", MODEL, {"L1H2": (0.9, 1e-9), "L2H3": (0.8, 1e-9)}),
            part("previous-token", MODEL, {"L1H2": (0.7, 1e-9)}),
        )
        assert labels(found)["L1H2"] == ["previous-token", "induction", "attention-sink"]
        assert labels(found)["L2H3"] == ["induction", "attention-sink"]
        assert [each.id for each in common_types(found.types, 12)] == ["attention-sink"]

    def test_a_name_of_more_than_a_fifth_of_the_heads_is_a_property(self, capsys: Capture) -> None:
        for heads, common in ((["L0H0", "L0H1"], False), (["L0H0", "L0H1", "L1H0"], True)):
            found = census(MODEL, part("induction", MODEL, dict.fromkeys(heads, (0.9, 1e-09))))
            assert bool(common_types(found.types, 12)) == common
            census_view.print_census(CATALOG, found, [])
            said = " ".join(capsys.readouterr().out.split())
            assert ("a property rather than a kind of head: induction (3)" in said) == common
            assert ("a property rather than a kind of head" in page.page(CATALOG, found)) == common

    def test_the_threshold_is_that_of_the_entry(self) -> None:
        threshold = CATALOG.heads["induction"].rule.detection.threshold  # type: ignore[union-attr]
        found = census(MODEL, part("induction", MODEL, {"L0H0": (threshold, 1e-9), "L0H1": (threshold - 1e-6, 1e-9)}))
        assert labels(found) == {"L0H0": ["induction"]}

    def test_q_is_corrected_over_heads_and_types_together(self) -> None:
        """A p that survives among 12 heads of one type does not among 24 heads of two, and does if others are small."""
        lone = {"L0H0": (0.9, 0.004)}
        assert labels(census(MODEL, part("induction", MODEL, lone))) == {"L0H0": ["induction"]}
        beside = part("previous-token", MODEL, {})
        assert labels(census(MODEL, part("induction", MODEL, lone), beside)) == {}
        many = part("previous-token", MODEL, {f"L1H{head}": (0.1, 1e-9) for head in range(4)})
        assert labels(census(MODEL, part("induction", MODEL, lone), many)) == {"L0H0": ["induction"]}

    def test_q_is_that_of_benjamini_and_hochberg(self) -> None:
        one = part("induction", MODEL, {"L0H0": (0.9, 0.001), "L2H1": (0.1, 0.02)})
        q = labelling.joint_q([one, part("previous-token", MODEL, {"L1H1": (0.9, 0.01)})])
        assert q["induction"][0, 0] == pytest.approx(0.001 * 24)
        assert q["previous-token"][1, 1] == pytest.approx(0.01 * 24 / 2)
        assert q["induction"][2, 1] == pytest.approx(0.02 * 24 / 3)

    def test_figures_are_those_of_the_held_out_prompts(self) -> None:
        made = part("induction", MODEL, {"L1H2": (0.9, 1e-9)})
        assert made.scores and made.scores.held
        made.scores.held.score[1][2], made.scores.held.low[1][2], made.scores.held.high[1][2] = 0.6, 0.5, 0.7
        (label,) = next(head.labels for head in census(MODEL, made).heads if head.labels)
        assert (label.score, label.low, label.high, label.selected_on) == (0.6, 0.5, 0.7, 0.9)

    def test_depth_is_relative_and_stages_are_the_catalogs(self) -> None:
        found = census(MODEL, part("induction", MODEL, {"L0H0": (0.9, 1e-9), "L2H3": (0.8, 1e-9)}))
        assert [head.depth for head in found.heads if head.labels] == [0.0, 1.0]
        assert found.types[0].mean_depth == 0.5
        stage = next(each for each in found.summary.stages if each.stage == CATALOG.heads["induction"].stage)
        assert (stage.short, stage.heads, stage.mean_depth) == ("LR", 2, 0.5)
        single = model_record(1, 4)
        assert census(single, part("induction", single, {"L0H0": (0.9, 1e-9)})).heads[0].depth == 0.0

    def test_a_group_has_the_labels_of_its_heads(self) -> None:
        found = census(MODEL, part("induction", MODEL, {"L1H2": (0.9, 1e-9), "L1H3": (0.8, 1e-9), "L1H1": (0.7, 1e-9)}))
        by_group = {(group.layer, group.group): group for group in found.groups}
        assert len(by_group) == 3 * 2
        assert by_group[1, 1].labels[0].heads == ["L1H2", "L1H3"] and by_group[1, 1].labels[0].score == 0.9
        assert by_group[1, 0].labels[0].heads == ["L1H1"] and not by_group[0, 0].labels

    @pytest.mark.parametrize(
        "tested, said, label",
        [
            (cause(["L1H2"], True), "supported", "supported"),
            (cause(["L1H2"], False), "not supported", "not supported"),
            (cause(["L1H2"], True, sets=5), "not tested", "not tested"),
            (cause(["L1H2"], False, sets=10, planned=19), "not supported", "not supported"),  # stopped early
            (cause(["L1H2"], False, sets=10, planned=15), "not tested", "not tested"),
            (cause(["L2H0"], True), "supported", "not tested"),  # this head was not among those intervened on
            (None, "not tested", "not tested"),
        ],
    )
    def test_a_cause_is_said_only_where_it_was_tested(self, tested: Any, said: str, label: str) -> None:
        found = census(MODEL, part("induction", MODEL, {"L1H2": (0.9, 1e-9)}, tested=tested))
        assert found.types[0].causal == said
        assert [each.causal for head in found.heads for each in head.labels] == [label]

    def test_a_label_without_the_behaviour_says_so(self) -> None:
        for able in (True, False):
            found = census(MODEL, part("induction", MODEL, {"L1H2": (0.9, 1e-9)}, able=able))
            assert [each.behaviour for head in found.heads for each in head.labels] == [able]

    def test_what_was_not_measured_says_why_and_counts_nowhere(self) -> None:
        out = part("successor", MODEL, None, status="untestable", reason="no words")
        found = census(MODEL, part("induction", MODEL, {"L1H2": (0.9, 1e-9)}), out)
        assert (found.types[1].status, found.types[1].reason, found.types[1].q) == ("untestable", "no words", None)
        assert found.summary.types_measured == 1

    def test_a_missing_part_is_an_error(self) -> None:
        plan = Plan(model=MODEL, settings=settings(["induction", "mover"]))
        with pytest.raises(HeadatlasError, match=r"1 of 2 types are not measured yet \(mover\)"):
            labelling.census_of(CATALOG, plan, [part("induction", MODEL, {})])


@pytest.fixture
def named() -> Census:
    return census(
        MODEL,
        part(
            "retrieval",
            MODEL,
            {"L2H1": (0.3, 1e-9), "L1H2": (0.9, 1e-9), "L0H0": (0.05, 1e-9)},
            tested=cause(["L1H2", "L2H1"], True),
        ),
        part("induction", MODEL, {"L1H2": (0.8, 1e-9), "L0H3": (-0.2, 1.0)}),
        part("successor", MODEL, None, status="untestable", reason="no words"),
    )


class TestFiles:
    def test_json_obeys_its_schema_and_reads_back(self, named: Census, tmp_path: Path) -> None:
        written = page.write_all(CATALOG, named, tmp_path)
        assert [path.name for path in written] == ["census.json", "census.csv", "census.html"]
        schema = json.loads((locations.catalog() / "schema" / "census.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(json.loads(written[0].read_text()))
        again = reading.read(written[0])
        assert again.model_dump_json() == named.model_dump_json()

    def test_a_damaged_census_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "census.json").write_text('{"schema_version": 9}')
        with pytest.raises(HeadatlasError, match="is not a census of schema 1"):
            reading.read(tmp_path / "census.json")

    def test_the_table_has_every_name_and_every_unknown_head(self, named: Census) -> None:
        rows = list(csv.DictReader(io.StringIO(page.table(named))))
        assert len(rows) == 3 + 12 - 2
        first = next(row for row in rows if row["head"] == "L1H2" and row["type"] == "retrieval")
        assert (first["kv_group"], first["score"], first["causal"], first["alone"]) == ("1", "0.9", "supported", "0.7")
        assert sum(row["type"] == "unknown" for row in rows) == 10

    def test_an_old_census_is_found_by_the_name_of_its_model(self, named: Census, tmp_path: Path) -> None:
        page.write_all(CATALOG, named, tmp_path / "org--made")
        assert reading.find("org/made", tmp_path) == tmp_path / "org--made" / "census.json"
        assert reading.find(str(tmp_path / "org--made" / "census.json")) is not None
        assert reading.find("other", tmp_path) is None


class TestOtherTools:
    """Each format is read here as the tool that it is for reads it."""

    def test_the_command_line_knows_all_formats(self) -> None:
        assert exchange.FORMATS == HEAD_FORMATS

    def test_headkv(self, named: Census) -> None:
        text = exchange.text(named, "retrieval", "headkv")
        head_list = json.loads(io.StringIO(text).readline())
        assert list(head_list) == [f"{layer}-{head}" for layer in range(3) for head in range(4)]
        scores = [float(np.mean(each[1])) for each in head_list.items()]
        assert scores[4 + 2] == 0.9 and scores[8 + 1] == 0.3 and min(scores) >= 0

    def test_headkv_has_no_negative_scores(self, named: Census) -> None:
        assert json.loads(exchange.text(named, "induction", "headkv"))["0-3"] == [0.0]

    def test_duoattention(self, named: Census) -> None:
        gates = np.loadtxt(io.StringIO(exchange.text(named, "retrieval", "duoattention")), delimiter="\t")
        assert gates.shape == (3, 2) and gates.min() >= 0 and gates.max() <= 1
        assert np.argwhere(gates >= 0.5).tolist() == [[1, 1], [2, 0]]
        assert 0 < gates[0, 0] < 0.5  # half its threshold, and not chosen

    def test_qrhead(self, named: Census) -> None:
        text = exchange.text(named, "retrieval", "qrhead")
        read = yaml.safe_load(text)
        heads = [tuple(map(int, each.split("-"))) for each in read["attn_head_set"].split(",")]
        assert heads == [(1, 2), (2, 1)] and read["model_name_or_path"] == "made"
        assert "mean score at least 0.1" in text.splitlines()[0]

    def test_transformerlens(self, named: Census) -> None:
        heads = [(layer, head) for layer, head in json.loads(exchange.text(named, "retrieval", "transformerlens"))]
        assert heads == [(1, 2), (2, 1)]

    def test_json_and_csv_say_the_rule_and_the_figures(self, named: Census) -> None:
        read = json.loads(exchange.text(named, "retrieval", "json"))
        assert [row["head"] for row in read["heads"]] == ["L1H2", "L2H1"]
        assert read["rule"]["threshold"] == 0.1 and read["rule"]["cause"] == "supported"
        assert [(group["layer"], group["kv_group"]) for group in read["kv_groups"]] == [(1, 1), (2, 0)]
        rows = list(csv.DictReader(io.StringIO(exchange.text(named, "retrieval", "csv"))))
        assert [(row["head"], float(row["low"])) for row in rows] == [
            ("L1H2", pytest.approx(0.8)),
            ("L2H1", pytest.approx(0.2)),
        ]

    def test_a_type_that_is_not_there(self, named: Census) -> None:
        with pytest.raises(HeadatlasError, match=r"successor is not measured in made \(no words\)"):
            exchange.text(named, "successor", "json")
        with pytest.raises(HeadatlasError, match="--types mover"):
            exchange.text(named, "mover", "json")

    def test_the_command_writes_the_rule_beside_the_file(self, named: Census, tmp_path: Path, capsys: Capture) -> None:
        path = files.write(tmp_path / "census.json", named.model_dump_json())
        out = tmp_path / "heads.json"
        words = ["heads", str(path), "--type", "retrieval", "--format", "headkv", "--out", str(out)]
        assert main(words) == 0
        assert json.loads((tmp_path / "heads.json.rule.json").read_text())["threshold"] == 0.1
        capsys.readouterr()
        assert main(words[:-2]) == 0
        told = capsys.readouterr()
        assert told.out == out.read_text() and "mean score at least 0.1" in told.err


class TestComparison:
    @pytest.fixture
    def other(self) -> Census:
        model = model_record(5, 4, name="other")
        return census(
            model,
            part("retrieval", model, {f"L4H{head}": (0.9, 1e-9) for head in range(3)}),
            part("induction", model, {}, able=False),
            part("mover", model, {}),
        )

    def test_counts_depth_and_what_is_missing(self, named: Census, other: Census) -> None:
        found = {each.type: each for each in comparing.compare(named, other)}
        retrieval = found["retrieval"]
        assert (retrieval.where, retrieval.first.heads, retrieval.second.heads) == ("both", 2, 3)
        assert retrieval.first.depth == 0.75 and retrieval.second.depth == 1.0 and retrieval.deeper == 0.25
        assert retrieval.deeper_low == 0.0 and retrieval.deeper_high == 0.5
        assert retrieval.second.share == 3 / 20 and retrieval.second.share_low < 3 / 20 < retrieval.second.share_high
        assert found["induction"].where == "only in the first"
        assert found["induction"].note == "behaviour absent in other"
        assert found["mover"].where == "not comparable" and "not asked for in made" in found["mover"].note
        assert found["successor"].where == "not comparable" and "untestable" in found["successor"].note

    def test_the_wilson_interval(self) -> None:
        low, high = comparing.wilson(5, 100)  # worked out by hand from the closed form
        assert low == pytest.approx(0.02154, abs=1e-4) and high == pytest.approx(0.11175, abs=1e-4)
        assert comparing.wilson(0, 10)[0] == 0.0

    def test_nothing_in_common(self, named: Census) -> None:
        model = model_record(2, 2)
        with pytest.raises(HeadatlasError, match="no type in common"):
            comparing.compare(named, census(model, part("mover", model, {})))

    def test_the_command(self, named: Census, other: Census, tmp_path: Path, capsys: Capture) -> None:
        names = []
        for each in (named, other):
            names.append(str(files.write(tmp_path / f"{each.model.name}.json", each.model_dump_json())))
        assert main(["compare", *names, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows == json.loads(json.dumps([asdict(each) for each in comparing.compare(named, other)]))
        assert main(["compare", *names]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("retrieval"))
        assert row.split()[1:] == ["●", "2", "17%", "0.75", "◐", "3", "15%", "1.00", "+0.25", "[+0.00,", "+0.50]"]

    def test_transfer_over_several(self, named: Census, other: Census) -> None:
        found = {each.type: each for each in comparing.transfer([named, other])}
        retrieval = found["retrieval"]
        assert retrieval.found == ("made", "other") and retrieval.supported == ("made",)
        assert retrieval.depths == {"made": 0.75, "other": 1.0} and retrieval.depth == 0.875
        assert retrieval.depth_low == 0.75 and retrieval.depth_high == 1.0
        assert found["induction"].able == ("made",) and found["induction"].measured == ("made", "other")
        assert found["mover"].found == () and found["mover"].depth is None
        assert found["successor"].measured == ()


class TestShards:
    def shard(self, folder: Path, model: Any, *ids: str) -> Path:
        cache.write_plan(Plan(model=model, settings=settings(["induction", "mover"])), folder)
        for id in ids:
            cache.write(part(id, model, {}), folder)
        return folder

    def test_shards_of_two_models_do_not_merge(self, tmp_path: Path) -> None:
        one = self.shard(tmp_path / "1", MODEL, "induction")
        two = self.shard(tmp_path / "2", model_record(2, 2), "mover")
        with pytest.raises(HeadatlasError, match="different models"):
            labelling.collect(CATALOG, [one, two])

    def test_a_part_of_an_older_script_is_refused(self, tmp_path: Path) -> None:
        folder = self.shard(tmp_path, MODEL, "induction", "mover")  # made parts name no script of today
        with pytest.raises(HeadatlasError, match="an entry that has changed since"):
            labelling.collect(CATALOG, [folder])

    @pytest.mark.parametrize(
        "make, complaint",
        [
            (lambda folder: None, "no shard of a census"),
            (lambda folder: files.write(folder / "plan.json", "{"), "is damaged"),
        ],
    )
    def test_what_is_no_shard(self, make: Any, complaint: str, tmp_path: Path, capsys: Capture) -> None:
        make(tmp_path)
        assert main(["merge", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--shard", "4/3"], "--shard 4/3 is not of the form i/n"),
        (["--shard", "x"], "--shard x is not of the form i/n"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--types", "indcution"], "did you mean induction"),
        (["--types", "rebinding"], "no reproduction yet for rebinding"),
        (["--prompts", "1"], "--prompts must be at least 2"),
    ],
)
def test_mistakes(words: list[str], complaint: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["census", "specimen", "--jobs", "1", "--out", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.slow
def test_a_model_that_is_not_there_is_one_line_from_several_processes_too(tmp_path: Path, capsys: Capture) -> None:
    words = ["census", str(tmp_path / "none"), "--jobs", "2", "--out", str(tmp_path)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "is not a folder" in error and error.count("\n") == 1 and "Traceback" not in error
