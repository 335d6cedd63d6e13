"""Statistics on numbers one can check by hand, verdicts by the rules, records that are whole or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from headatlas import HeadatlasError
from headatlas.evidence import record_files, record_parts, records, statistics
from headatlas.evidence.verdict import judge
from headatlas.notation import Head
from made_records import NOTHING, behaviour, cause, detection, literature, record

RNG = np.random.default_rng(0)


def heads_of(*counts: int) -> list[Head]:
    """All heads of a model with so many in each layer."""
    return [Head(layer, head) for layer, count in enumerate(counts) for head in range(count)]


class TestStatistics:
    def test_interval_covers_the_true_mean_about_95_times_in_100(self) -> None:
        samples = RNG.normal(3.0, 1.0, size=(40, 300))  # 300 experiments of 40 units
        low, high = statistics.interval(samples)
        covered = ((low <= 3.0) & (high >= 3.0)).mean()
        assert 0.90 <= covered <= 0.98

    def test_interval_is_the_same_every_time(self) -> None:
        values = RNG.random(30)
        assert statistics.interval(values) == statistics.interval(values)

    def test_p_of_heads_that_equal_their_control_is_uniform(self) -> None:
        p = statistics.p_above_null(RNG.random((30, 20, 50)), RNG.random((30, 20, 50)))
        assert 0.03 < (p < 0.05).mean() < 0.07

    def test_p_of_constant_differences(self) -> None:
        score = np.zeros((10, 1, 3))
        score[:, 0, 0], score[:, 0, 1] = 1.0, -1.0
        assert statistics.p_above_null(score, np.zeros_like(score)).tolist() == [[0.0, 1.0, 1.0]]

    def test_q_is_benjamini_hochberg(self) -> None:
        q = statistics.q_values(np.array([[0.01, 0.02], [0.03, 0.5]]))
        assert np.allclose(q, [[0.04, 0.04], [0.04, 0.5]])

    def test_noise_is_selected_no_more_often_than_promised(self) -> None:
        found = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            score, control = rng.random((24, 12, 12)), rng.random((24, 12, 12))
            q = statistics.q_values(statistics.p_above_null(score, control))
            found += bool(statistics.select(score.mean(0), q, threshold=0.0, fdr=0.05))
        assert found <= 8, "at a rate of 5% about 5 of 100 models of pure noise may have a head"

    def test_selection_needs_both_the_threshold_and_the_control(self) -> None:
        score, q = np.array([[0.9, 0.9, 0.3, 0.5]]), np.array([[0.01, 0.2, 0.01, 0.01]])
        assert statistics.select(score, q, threshold=0.4, fdr=0.05) == [Head(0, 0), Head(0, 3)]

    def test_heads_left_out_are_in_no_matched_set(self) -> None:
        left_out = [Head(0, 1), Head(2, 3)]
        for selected in ([Head(0, 0), Head(2, 0)], [Head(0, 0)]):
            sets = statistics.matched_sets(selected, heads_of(6, 6, 6), seed=0, left_out=left_out).sets
            assert sets and all(len(each) == len(selected) for each in sets)
            assert not {head for each in sets for head in each} & {*selected, *left_out}

    def test_matched_sets_take_as_many_other_heads_from_the_same_layers(self) -> None:
        selected = [Head(1, 0), Head(1, 1), Head(3, 5)]
        matched = statistics.matched_sets(selected, heads_of(12, 12, 12, 12, 12), seed=0)
        assert matched.matching == "layer" and matched.distinct == 45 * 11
        assert len(set(matched.sets)) == len(matched.sets) == 200
        for heads in matched.sets:
            assert sorted(head.layer for head in heads) == [1, 1, 3]
            assert not set(heads) & set(selected)

    def test_a_small_model_gives_all_its_sets_and_widens_to_all_layers(self) -> None:
        matched = statistics.matched_sets([Head(0, 0)], heads_of(8, 8, 8, 8), seed=0)
        assert matched.matching == "size" and matched.distinct == len(matched.sets) == 31

    def test_no_matched_set_where_too_few_heads_are_left(self) -> None:
        everything = [Head(0, head) for head in range(4)]
        assert statistics.matched_sets(everything, heads_of(4), seed=0).sets == []

    def test_exceeds(self) -> None:
        assert statistics.exceeds(1.0, [0.0, 0.5, 2.0, 1.0]) == (50.0, 0.6)
        assert statistics.exceeds(9.0, [0.0] * 99) == (100.0, 0.01)

    def test_overlap_of_two_heads_of_144_by_chance(self) -> None:
        assert statistics.overlap_p(found=1, reported=1, both=1, heads=144) == pytest.approx(1 / 144)
        assert statistics.overlap_p(found=5, reported=5, both=0, heads=144) == pytest.approx(1.0)


class TestLayersOfDifferentHeads:
    """A model of 0, 4, 0 and 2 heads: places without a head are NaN, and are nothing but that."""

    THERE = np.array([[False] * 4, [True] * 4, [False] * 4, [True, True, False, False]])

    def drawn(self, units: int = 12) -> np.ndarray:
        return np.where(self.THERE, np.random.default_rng(1).random((units, 4, 4)), np.nan)

    def test_intervals_are_those_of_the_heads_alone(self) -> None:
        values = self.drawn()
        for whole, alone in zip(statistics.interval(values), statistics.interval(values[:, self.THERE]), strict=True):
            assert np.array_equal(np.isnan(whole), ~self.THERE)
            assert np.array_equal(whole[self.THERE], alone)
        nothing = np.full((5, 2, 3), np.nan)
        assert all(np.isnan(end).all() and end.shape == (2, 3) for end in statistics.interval(nothing))

    def test_p_and_q_are_those_of_the_heads_alone(self) -> None:
        score, control = self.drawn(), self.drawn() - 0.3 * np.random.default_rng(2).random((12, 4, 4))
        score[:, 1, 2] = control[:, 1, 2] + 1  # all differences equal
        p = statistics.p_above_null(score, control)
        assert np.array_equal(np.isnan(p), ~self.THERE) and p[1, 2] == 0
        alone = statistics.p_above_null(score[:, self.THERE][:, None], control[:, self.THERE][:, None])[0]
        assert np.allclose(p[self.THERE], alone, rtol=1e-12)
        q = statistics.q_values(p)
        assert np.array_equal(np.isnan(q), ~self.THERE)
        assert np.array_equal(q[self.THERE], statistics.q_values(p[self.THERE]))
        assert np.isnan(statistics.q_values(np.full((2, 2), np.nan))).all()

    def test_q_counts_six_tests_not_sixteen(self) -> None:
        p = np.where(self.THERE, 1.0, np.nan)
        p[3, 1] = 0.01
        assert statistics.q_values(p)[3, 1] == pytest.approx(0.06)

    def test_no_head_that_is_not_there_is_selected(self) -> None:
        score, q = np.where(self.THERE, 0.9, np.nan), np.where(self.THERE, 0.01, np.nan)
        assert statistics.select(score, q, 0.4, 0.05) == heads_of(0, 4, 0, 2)
        assert statistics.select(score, q, -1e9, 1.0) == heads_of(0, 4, 0, 2)

    def test_random_sets_are_drawn_from_heads_that_exist(self) -> None:
        every = heads_of(0, 8, 0, 4, 12)
        matched = statistics.matched_sets([Head(1, 0), Head(3, 1)], every, seed=0)
        assert matched.matching == "layer" and matched.distinct == 7 * 3 == len(matched.sets)
        assert all([head.layer for head in each] == [1, 3] for each in matched.sets)
        wide = statistics.matched_sets([Head(3, 1)], every, seed=0)
        assert wide.matching == "size" and {head for (head,) in wide.sets} == {*every} - {Head(3, 1)}
        assert statistics.matched_sets(every, every, seed=0).sets == []


@pytest.mark.parametrize(
    "parts, label",
    [
        ((behaviour(), detection(), cause(), NOTHING), "reproduced"),
        ((behaviour(), detection(), cause(), literature(0.001)), "reproduced"),
        ((behaviour(), detection(), cause(), literature(0.8)), "partly"),
        ((behaviour(), detection(), cause(passed=False), NOTHING), "partly"),
        ((behaviour(), detection(), None, NOTHING), "partly"),
        ((behaviour(), detection(0.1, selected=()), None, NOTHING), "not-reproduced"),
        ((behaviour(), detection(0.9, q=0.3, selected=()), None, NOTHING), "inconclusive"),
        ((behaviour(False), detection(), cause(), literature(0.001)), "inconclusive"),
        ((behaviour(False), detection(0.1, selected=()), None, NOTHING), "inconclusive"),
    ],
)
def test_verdicts(parts: tuple, label: str) -> None:
    verdict = judge(*parts)
    assert verdict.label == label
    assert len(verdict.reasons) >= 2


@pytest.mark.parametrize("planned, few", [(19, False), (200, False), (18, True), (None, True)])
def test_drawing_that_stopped_early_is_not_a_lack_of_random_sets(planned: int | None, few: bool) -> None:
    sets = {"random_effects": [2.0] * 10, "planned_sets": planned, "stopped": "1 of the first 10" if planned else ""}
    stopped = cause(passed=False).model_copy(update=sets)
    said = " ".join(judge(behaviour(), detection(), stopped, NOTHING).reasons)
    assert ("too few to show a cause" in said) == few and ("does not move the behaviour" in said) != few


class TestRecords:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = record_files.write(record(), tmp_path)
        assert path == tmp_path / "m" / "induction.json"
        assert record_files.read(path) == records.Record.model_validate_json(record().model_dump_json())
        assert json.loads(path.read_text())["environment"]["seconds"] == 1.23457

    def test_top_level_keys_are_those_of_the_standard(self) -> None:
        assert list(records.Record.model_fields) == [
            "schema_version", "entry", "model", "stimuli", "environment", "behaviour", "detection", "cause",
            "literature", "stability", "verdict",
        ]  # fmt: skip

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(HeadatlasError, match="--out"):
            record_files.require_writable(tmp_path / "records")

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "records").write_text("")
        with pytest.raises(HeadatlasError, match="--out"):
            record_files.require_writable(tmp_path / "records")

    def test_a_full_disk_leaves_the_old_record_and_no_scrap(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = record_files.write(record(), tmp_path)
        before = path.read_text()

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fdopen", full)
        with pytest.raises(HeadatlasError, match="No space left on device"):
            record_files.write(record(), tmp_path)
        assert path.read_text() == before
        assert [each.name for each in path.parent.iterdir()] == ["induction.json"]

    @pytest.mark.parametrize("content", ["", "{", "{}", '{"schema_version": 2}', "[]"])
    def test_what_is_no_record(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(HeadatlasError, match="run it again"):
            record_files.read(tmp_path / "x.json")


class TestRecordsOfUnevenModels:
    def model(self, **more: object) -> record_parts.ModelRecord:
        known = record().model.model_dump() | {"layers": 4, "heads": 4, "kv_heads": 2}
        return record_parts.ModelRecord.model_validate(
            known | {"head_counts": [0, 4, 0, 2], "kv_head_counts": [0, 2, 0, 1]} | more
        )

    def test_grids_have_a_row_for_each_layer_and_a_number_for_each_head(self) -> None:
        values = np.full((4, 4), np.nan)
        values[1], values[3, :2] = [0.1, 0.2, 0.3, 0.4], [0.5, 0.6]
        rows = record_parts.grid(values)
        assert rows == [[], [0.1, 0.2, 0.3, 0.4], [], [0.5, 0.6]]
        assert np.array_equal(record_parts.padded(rows), values, equal_nan=True)
        assert record_parts.padded([[], []]).shape == (2, 0)
        assert record_parts.padded([[1.0, 2.0]]).tolist() == [[1.0, 2.0]]

    @pytest.mark.parametrize("row", [[np.nan, 0.5], [0.1, np.nan, 0.5, np.nan]])
    def test_a_head_without_a_number_gives_its_place_to_no_other(self, row: list[float]) -> None:
        with pytest.raises(ValueError, match="L1H"):
            record_parts.grid(np.array([[0.0] * len(row), row]))

    def test_heads_and_key_value_heads_of_each_layer(self) -> None:
        model = self.model()
        assert [model.heads_in(layer) for layer in range(4)] == [0, 4, 0, 2]
        assert [model.kv_heads_in(layer) for layer in range(4)] == [0, 2, 0, 1]
        assert model.every_head == heads_of(0, 4, 0, 2)
        assert [model.kv_head(head) for head in model.every_head] == [0, 0, 1, 1, 0, 0]
        assert model.size == "4 layers (2 with attention) x 2 to 4 heads"

    def test_a_model_of_equal_layers_says_no_more_than_before(self) -> None:
        model = record().model
        assert "counts" not in model.model_dump_json() and model.size == "1 layers x 2 heads"
        assert (model.heads_in(0), model.kv_heads_in(0), model.every_head) == (2, 1, heads_of(2))
        assert json.loads(self.model().model_dump_json())["head_counts"] == [0, 4, 0, 2]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"head_counts": [0, 4, 0]},
            {"head_counts": [0, 4, 0, 5]},
            {"head_counts": [0, 4, 0, -2]},
            {"head_counts": [4, 4, 0, 2]},
            {"kv_head_counts": [0, 2, 2, 1]},
            {"kv_head_counts": None},
            {"heads": 0},
            {"layers": 10**12, "head_counts": None, "kv_head_counts": None},
        ],
    )
    def test_counts_that_contradict_each_other(self, wrong: dict) -> None:
        with pytest.raises(ValueError, match="heads"):
            self.model(**wrong)

    def test_models_of_another_shape_are_told_apart(self) -> None:
        assert self.model().differs(self.model()) == ["identity"]  # neither says all that it is
        assert self.model().differs(self.model(head_counts=[4, 0, 0, 2], kv_head_counts=[2, 0, 0, 1])) == ["shape"]
        assert self.model().differs(self.model(sha256="1")) == ["weights"]

    def test_a_record_whose_scores_are_of_another_shape(self, tmp_path: Path) -> None:
        path = record_files.write(record(), tmp_path)
        path.write_text(path.read_text().replace('"heads": 2', '"heads": 3'))
        with pytest.raises(HeadatlasError, match="run it again"):
            record_files.read(path)

    def test_models_and_scores_of_shipped_records_come_out_as_they_went_in(self) -> None:
        from headatlas import locations

        for path in record_files.paths_in(locations.records())[::10]:
            there, again = json.loads(path.read_text()), json.loads(record_files.read(path).model_dump_json())
            assert json.dumps(again["model"]) == json.dumps(there["model"])
            for name in ("find", "find_control", "q", "score", "low", "high", "control", "sink_normalised"):
                assert (again["detection"] or {}).get(name) == (there["detection"] or {}).get(name)


def test_verdicts_of_two_models_side_by_side() -> None:
    from headatlas import locations
    from headatlas.evidence.agreement import agreement

    specimen = [record for record in record_files.read_all(locations.records()) if record.model.id == "specimen"]
    other = [
        record.model_copy(
            update={
                "model": record.model.model_copy(update={"id": "other"}),
                "verdict": records.Verdict(label="partly", reasons=[]),
            }
        )
        for record in specimen[1:]
    ]
    found = agreement([*specimen, *other], ["specimen", "other", "third"])
    assert found.labels[specimen[0].entry.id] == (specimen[0].verdict.label, None, None)
    partly = sum(record.verdict.label == "partly" for record in specimen[1:])
    assert found.same("other") == (partly, len(other)) and found.same("third") == (0, 0)
    assert found.same("specimen") == (len(specimen), len(specimen))
