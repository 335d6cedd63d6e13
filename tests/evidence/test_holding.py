"""A head that was selected on some prompts must hold on others: else it is found nowhere, and has no name."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from census_plans import plan_of
from headatlas import locations
from headatlas.census import comparing, exchange, job, page, reading, running
from headatlas.census.schema import Census
from headatlas.cli.program import main
from headatlas.errors import HeadatlasError
from headatlas.evidence import files, held_out, record_files, records, verdict
from headatlas.lab import OpenModel, Scores
from headatlas.notation import Head
from headatlas.protocol import assess
from headatlas.protocol.script import PromptSample, load_script
from made_census import CATALOG, cause, census, model_record, part
from made_records import NOTHING, behaviour, record
from made_records import cause as caused

MODEL = model_record(3, 4, kv_heads=2)
RULE = CATALOG.heads["retrieval"].rule
assert RULE
THRESHOLD = RULE.detection.threshold
Split = dict[str, tuple[float, float]]  # head -> score, control


@pytest.mark.parametrize(
    "score, control, holding_",
    [
        (0.3, 0.0, True),
        (0.2, 0.0, True),  # the threshold itself
        (0.2 - 1e-9, 0.0, True),  # the same in a record
        (0.19999, 0.0, False),
        (0.3, 0.3, False),
        (0.3, 0.3 - 1e-9, False),  # the same in a record
        (0.3, 0.4, False),
        (float("nan"), 0.0, False),
    ],
)
def test_the_rule(score: float, control: float, holding_: bool) -> None:
    assert held_out.holds(score, control, 0.2) == holding_


# --- runs -----------------------------------------------------------------------------------------------------------


def scores(given: Split) -> Scores:
    """Of twelve prompts and the heads of a model of 3 layers x 4 heads; the other heads score 0 as their control."""
    noise = np.random.default_rng(0).normal(0, 1e-3, (12, 3, 4))
    noise -= noise.mean(0)
    score, control = np.zeros((12, 3, 4)), np.zeros((12, 3, 4))
    for text, (mine, other) in given.items():
        score[:, *Head.parse(text)], control[:, *Head.parse(text)] = mine, other
    return Scores(score + noise, control)


def detected(find: Split, test: Split) -> records.Detection:
    assert RULE
    return assess.detection_of(RULE, {"find": scores(find), "test": scores(test)})


FIND: Split = {"L0H0": (0.5, 0.0), "L1H1": (0.4, 0.0), "L2H2": (0.3, 0.0), "L2H3": (0.05, 0.0)}
TEST: Split = {"L0H0": (0.5, 0.0), "L1H1": (0.05, 0.0), "L2H2": (0.3, 0.35), "L2H3": (0.9, 0.0)}


def test_of_the_heads_selected_those_are_found_that_hold() -> None:
    """One misses the threshold, one its control; one reaches it on the new prompts alone and was never selected."""
    found = detected(FIND, TEST)
    assert (found.selected, found.did_not_hold) == (["L0H0"], ["L1H1", "L2H2"])
    said = verdict.judge(behaviour(), found, caused(), NOTHING)
    assert said.label == "reproduced"
    assert "1 of 12 heads found" in said.reasons[1] and "L1H1 L2H2 were selected and did not hold" in said.reasons[1]


def test_papers_agree_on_heads_that_hold_alone() -> None:
    findings = [each for each in CATALOG.heads["induction"].findings if each.model == "gpt2" and each.heads][:1]
    named = str(findings[0].heads[0])
    shape = {"find": np.zeros((12, 12, 12)), "test": np.zeros((12, 12, 12))}
    shape["find"][:, *Head.parse(named)] = 0.9
    noise = np.random.default_rng(0).normal(0, 1e-3, (12, 12, 12))
    assert RULE
    found = assess.detection_of(RULE, {k: Scores(v + noise, 0 * v) for k, v in shape.items()})  # type: ignore[misc]
    assert found.did_not_hold == [named]
    literature = assess.literature_of(found, findings)
    assert named in literature.reported_heads and literature.shared == []


@pytest.mark.parametrize("spread, label", [(0.001, "not-reproduced"), (0.5, "inconclusive")])
def test_where_none_holds_the_interval_tells_a_failure_from_too_few_prompts(spread: float, label: str) -> None:
    assert RULE
    test = scores({"L0H0": (0.6 * THRESHOLD, 0.0)})
    test.score[:, 0, 0] += spread * np.resize([-1, 1], 12)
    found = assess.detection_of(RULE, {"find": scores({"L0H0": (0.5, 0.0)}), "test": test})
    assert (found.selected, found.did_not_hold) == ([], ["L0H0"])
    said = verdict.judge(behaviour(), found, None, NOTHING)
    assert said.label == label and "L0H0 was selected and did not hold" in said.reasons[1]


def old(made: records.Record) -> dict[str, Any]:
    """A record as it was written before heads had to hold."""
    data = json.loads(made.model_dump_json())
    data["detection"]["selected"] += data["detection"].pop("did_not_hold", [])
    return data


@pytest.fixture
def earlier() -> records.Record:
    literature = records.Literature(reported_heads=["L1H1"], shared=["L1H1"], overlap_p=0.01)
    measured = {"model": MODEL, "detection": detected(FIND, TEST), "literature": literature}
    return record().model_copy(update=measured)


def test_an_old_record_is_read_by_the_rule(earlier: records.Record, tmp_path: Path) -> None:
    path = files.write(tmp_path / "old.json", json.dumps(old(earlier)))
    found = record_files.read(path)
    assert found.detection and found.detection.selected == ["L0H0"]
    assert found.detection.did_not_hold == ["L1H1", "L2H2"]
    assert found.cause is None and found.literature.shared == [] and found.literature.overlap_p == 1.0
    assert found.verdict.label == "partly" and any("run it again" in reason for reason in found.verdict.reasons)
    again = record_files.read(record_files.write(found, tmp_path))
    assert again.model_dump_json() == found.model_dump_json()


def test_an_old_record_of_heads_that_all_hold_stays_as_it_is(earlier: records.Record, tmp_path: Path) -> None:
    whole = earlier.model_copy(update={"detection": detected(FIND, FIND)})
    found = record_files.read(files.write(tmp_path / "old.json", json.dumps(old(whole))))
    assert found.model_dump(mode="json") == whole.model_dump(mode="json")


def test_a_record_that_finds_a_head_it_has_no_score_of_is_one_line(earlier: records.Record, tmp_path: Path) -> None:
    for name in ("L9H0", "L0H9"):
        data = old(earlier)
        data["detection"]["selected"] = [name]
        with pytest.raises(HeadatlasError, match=f"{name} is not a head of .*; run it again"):
            record_files.read(files.write(tmp_path / "old.json", json.dumps(data)))


def test_no_record_that_ships_finds_a_head_that_does_not_hold() -> None:
    every = record_files.read_all(locations.records())
    assert every
    for each in every:
        for head in each.selected:
            assert each.detection
            score, control = (grid[head.layer][head.head] for grid in (each.detection.score, each.detection.control))
            assert score >= each.detection.threshold and score > control, f"{each.entry.id} on {each.model.id}: {head}"


# --- censuses -------------------------------------------------------------------------------------------------------


def missing(id: str, **heads: tuple[float, float]) -> Any:
    """A part in which some heads that are selected score as given, and as their control, on held-out prompts."""
    made = part(id, MODEL, {"L0H0": (0.9, 1e-9), "L1H2": (0.8, 1e-9), "L1H3": (0.7, 1e-9), "L2H1": (0.6, 1e-9)})
    assert made.scores and made.scores.held
    for text, (score, control) in heads.items():
        head = Head.parse(text)
        made.scores.held.score[head.layer][head.head] = score
        made.scores.held.control[head.layer][head.head] = control
    return made


@pytest.fixture
def taken() -> Census:
    """L1H2 misses the threshold, L2H1 its control."""
    return census(MODEL, missing("retrieval", L1H2=(THRESHOLD / 2, 0.0), L2H1=(0.6, 0.6)))


def test_a_name_that_does_not_hold_is_kept_apart_and_counted_nowhere(taken: Census) -> None:
    (type,), summary = taken.types, taken.summary
    assert (type.heads, type.did_not_hold) == (["L0H0", "L1H3"], ["L1H2", "L2H1"])
    assert [head.head for head in taken.heads if head.labels] == ["L0H0", "L1H3"]
    assert [head.head for head in taken.heads if head.did_not_hold] == ["L1H2", "L2H1"]
    assert type.mean_depth == 0.25 and (summary.labelled, summary.unknown, summary.did_not_hold) == (2, 10, 2)
    assert sum(stage.labels for stage in summary.stages) == sum(stage.heads for stage in summary.stages) == 2
    assert next(stage.mean_depth for stage in summary.stages if stage.heads) == 0.25
    assert {head for group in taken.groups for label in group.labels for head in label.heads} == {"L0H0", "L1H3"}
    label = next(label for head in taken.heads for label in head.did_not_hold if head.head == "L1H2")
    assert (label.selected_on, label.score) == (0.8, THRESHOLD / 2)


def test_a_type_whose_names_all_fail_is_not_found() -> None:
    made = missing("retrieval", **dict.fromkeys(("L0H0", "L1H2", "L1H3", "L2H1"), (0.0, 0.0)))
    found = census(MODEL, made.model_copy(update={"tested": cause(["L0H0"], True)}))
    assert (found.summary.types_found, found.summary.types_supported, found.types[0].causal) == (0, 0, "not tested")


def test_a_cause_of_heads_that_do_not_hold_is_none_of_the_others() -> None:
    made = missing("retrieval", L1H2=(0.0, 0.0))
    found = census(MODEL, made.model_copy(update={"tested": cause(["L0H0", "L1H2"], True)}))
    assert found.types[0].causal == "not tested" and "do not hold" in found.types[0].causal_why
    assert {label.causal for head in found.heads for label in head.labels} == {"not tested"}
    own = census(MODEL, made.model_copy(update={"tested": cause(["L0H0", "L1H3"], True)}))
    assert own.types[0].causal == "supported"


def test_no_export_has_it(taken: Census) -> None:
    lost = {"L1H2", "L2H1"}
    read = json.loads(exchange.text(taken, "retrieval", "json"))
    assert [row["head"] for row in read["heads"]] == ["L0H0", "L1H3"]
    assert [(group["layer"], group["kv_group"]) for group in read["kv_groups"]] == [(0, 0), (1, 1)]
    assert read["rule"]["heads_chosen"] == 2 and read["rule"]["heads_that_did_not_hold_on_new_prompts"] == 2
    assert "new prompts" in read["rule"]["rule"]
    rows = csv.DictReader(io.StringIO(exchange.text(taken, "retrieval", "csv")))
    assert [row["head"] for row in rows] == ["L0H0", "L1H3"]
    scores = {name: score for name, (score,) in json.loads(exchange.text(taken, "retrieval", "headkv")).items()}
    assert scores["1-2"] == THRESHOLD / 2 and scores["1-3"] == 0.7
    gates = np.loadtxt(io.StringIO(exchange.text(taken, "retrieval", "duoattention")), delimiter="\t")
    assert np.argwhere(gates >= 0.5).tolist() == [[0, 0], [1, 1]]
    assert '"0-0,1-3"' in exchange.text(taken, "retrieval", "qrhead")
    assert json.loads(exchange.text(taken, "retrieval", "transformerlens")) == [[0, 0], [1, 3]]
    table = list(csv.DictReader(io.StringIO(page.table(taken))))
    assert {row["head"] for row in table if row["type"] == "unknown"} >= lost
    text = page.page(CATALOG, taken)
    assert "2 more failed on new prompts" in text and 'data-h="L1H2"' not in text
    assert 'aria-label="L1H2: unknown"' in text


def test_the_gate_of_a_group_is_not_that_of_a_head_that_did_not_hold() -> None:
    made = missing("retrieval", L1H2=(THRESHOLD / 2, 0.0))
    assert made.scores
    made.scores.find[1][3] = THRESHOLD  # the other head of its group, which holds
    gates = np.loadtxt(io.StringIO(exchange.text(census(MODEL, made), "retrieval", "duoattention")), delimiter="\t")
    assert gates[1, 1] == 0.5


def test_a_comparison_counts_what_holds(taken: Census) -> None:
    whole = census(MODEL, missing("retrieval"))
    (found,) = comparing.compare(taken, whole)
    assert (found.first.heads, found.second.heads) == (2, 4) and found.first.depth == 0.25
    assert comparing.transfer([taken])[0].heads == {"made": 2}


def as_before(found: Census) -> Census:
    """The census as it was taken when names did not have to hold."""
    data = found.model_dump(mode="json")
    for each in (*data["types"], *data["heads"]):
        each["labels" if "labels" in each else "heads"] += each.pop("did_not_hold")
    del data["summary"]["did_not_hold"]
    return Census.model_validate(data)


def test_an_old_census_is_read_by_the_rule(taken: Census, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = as_before(taken)
    assert "L1H2" in before.types[0].heads
    path = files.write(tmp_path / "census.json", before.model_dump_json())
    assert reading.read(path).model_dump_json() == taken.model_dump_json()
    assert main(["heads", str(path), "--type", "retrieval", "--format", "transformerlens"]) == 0
    assert json.loads(capsys.readouterr().out) == [[0, 0], [1, 3]]


def test_a_cause_in_an_old_census_goes_with_the_heads_it_was_tested_on(tmp_path: Path) -> None:
    made = missing("retrieval", L1H2=(0.0, 0.0)).model_copy(update={"tested": cause(["L0H0", "L1H2"], True)})
    before = as_before(census(MODEL, made))
    before.types[0].causal = "supported"
    for head in before.heads:
        for label in head.labels:
            label.causal = "supported"
    found = reading.read(files.write(tmp_path / "census.json", before.model_dump_json()))
    assert found.types[0].causal == "not tested" and found.summary.types_supported == 0
    assert {label.causal for head in found.heads for label in head.labels} == {"not tested"}


def test_a_census_with_names_of_no_type_is_one_line(taken: Census, tmp_path: Path) -> None:
    text = taken.model_dump_json().replace('"type":"retrieval"', '"type":"other"')
    with pytest.raises(HeadatlasError, match=r"names of no type in it \(other\); take it again"):
        reading.read(files.write(tmp_path / "census.json", text))


def test_no_census_that_ships_names_a_head_that_does_not_hold() -> None:
    every = reading.recorded()
    assert every
    for each in every:
        thresholds = {type.id: type.threshold for type in each.types}
        names = [(head, label) for head in each.heads for label in head.labels]
        assert names and sum(len(type.heads) for type in each.types) == len(names)
        assert sum(stage.labels for stage in each.summary.stages) == len(names)
        for head, label in names:
            assert label.score >= thresholds[label.type] and label.score > label.control, (each.model.id, head.head)


def test_the_cause_is_that_of_heads_that_hold(specimen: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("mover")

    def detect(model: OpenModel, drawn: PromptSample) -> Scores:
        shape = (len(drawn.prompts), model.anatomy.layers, model.anatomy.heads)
        score = np.random.default_rng(0).normal(0, 1e-4, shape)
        score[:, 3, 5] += 1.0
        score[:, 2, 1] += 1.0 if drawn.split == "find" else 0.0
        return Scores(score, np.zeros(shape))

    monkeypatch.setattr(script.module, "detect", detect)
    monkeypatch.setattr(job, "load_script", lambda id, **_: script)
    (made,) = running.measure_types(CATALOG, specimen, plan_of(specimen, ["mover"], prompts=4, cause=True))
    assert made.tested and made.tested.heads == ["L3H5"] == [each.head for each in made.tested.figures.alone]
