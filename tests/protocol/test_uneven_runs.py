"""Runs, censuses and collaborations of a model of 0, 4, 0 and 2 heads (0, 2, 0 and 1 key/value heads)."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import headatlas
from headatlas import specimens
from headatlas.census import labelling, planning, running
from headatlas.census.budget import resolve_settings
from headatlas.cli.terminal import record_view
from headatlas.collaboration import patching
from headatlas.collaboration.measuring import STANDARD, Weights
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files, records
from headatlas.lab import OpenModel, Scores, open_model, record
from headatlas.notation import Head
from headatlas.pages import report
from headatlas.protocol import run
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import measure_scores, of_heads
from headatlas.protocol.provenance import model_record
from headatlas.protocol.results import Result
from headatlas.protocol.script import load_script

CATALOG = headatlas.load()
EVERY = [Head(1, 0), Head(1, 1), Head(1, 2), Head(1, 3), Head(3, 0), Head(3, 1)]
THERE = np.array([[False] * 4, [True] * 4, [False] * 4, [True, True, False, False]])


@pytest.fixture(scope="module")
def model() -> Iterator[OpenModel]:
    torch.manual_seed(0)
    words = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    config = transformers.Lfm2Config(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
    )
    made = transformers.Lfm2ForCausalLM(config)
    narrow = copy.deepcopy(config)
    narrow.num_attention_heads, narrow.num_key_value_heads, narrow.head_dim = 2, 1, 16
    made.model.layers[3].self_attn = type(made.model.layers[3].self_attn)(narrow, layer_idx=3)
    made.model.layers[3].self_attn.config = config
    with torch.no_grad():
        for each in made.parameters():
            each.mul_(5.0) if each.ndim > 1 else each.add_(0.1 * torch.randn_like(each))
    with open_model(made, tokenizer=words, called="uneven") as opened:
        yield opened


def test_what_is_recorded_of_it(model: OpenModel) -> None:
    made = model_record(model, None)
    assert (made.layers, made.heads, made.kv_heads) == (4, 4, 2)
    assert (made.head_counts, made.kv_head_counts) == ([0, 4, 0, 2], [0, 2, 0, 1])
    assert made.every_head == EVERY == list(model.anatomy.all_heads)


class TestScores:
    @pytest.mark.parametrize(
        "id", ["cmr-like", "positional", "rare-words", "retrieval", "semantic-induction", "syntactic", "truthfulness"]
    )
    def test_scripts_say_nothing_of_heads_that_are_not_there(self, id: str, model: OpenModel) -> None:
        script, rule = load_script(id), CATALOG.heads[id].rule
        assert rule
        found = measure_scores(script, model, draw(script, rule, model, 0, 2).find)
        for values in (found.score, found.null):
            assert np.array_equal(np.isnan(values).all(0), ~THERE) and np.isfinite(values[:, THERE]).all()

    def test_a_head_without_a_score_is_named(self, model: OpenModel) -> None:
        score = np.zeros((3, 4, 4))
        score[1, 3, 1] = np.nan
        for values in (Scores(score, np.zeros_like(score)), Scores(np.zeros_like(score), score)):
            with pytest.raises(HeadatlasError, match="induction is not a number for L3H1"):
                of_heads(values, model.anatomy, "induction")

    def test_what_a_script_makes_of_other_places_is_left_out(self, model: OpenModel) -> None:
        ones = np.ones((3, 4, 4))
        found = of_heads(Scores(ones, ones, ones), model.anatomy, "induction")
        assert found.sink is not None
        assert all(np.array_equal(np.isnan(each), ~THERE) for each in (found.score[0], found.null[1], found.sink[2]))


@pytest.fixture(scope="module")
def made(model: OpenModel) -> records.Record:
    return run.run(CATALOG, CATALOG.heads["previous-token"], model)


class TestRun:
    def test_scores_are_those_of_the_layers_they_name(self, model: OpenModel, made: records.Record) -> None:
        script, rule = load_script("previous-token"), CATALOG.heads["previous-token"].rule
        assert rule and made.detection
        prompts = draw(script, rule, model, 0).test.prompts
        total = dict.fromkeys(EVERY, 0.0)
        for prompt in prompts:
            seen = record(model, [prompt.tokens], ["pattern"])
            for head in EVERY:
                weights = [float(seen["pattern", head.layer][0, head.head, q, k]) for q, k in prompt.pairs]
                total[head] += sum(weights) / len({query for query, _ in prompt.pairs}) / len(prompts)
        for name in ("find", "find_control", "q", "score", "low", "high", "control", "sink_normalised"):
            assert [len(row) for row in getattr(made.detection, name)] == [0, 4, 0, 2], name
        for head, expected in total.items():
            assert made.detection.score[head.layer][head.head] == pytest.approx(expected, abs=1e-5)

    def test_it_is_written_read_and_shown(
        self, made: records.Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = record_files.write(made, tmp_path)
        again = record_files.read(path)
        assert again.model == made.model and "null" not in path.read_text().partition('"head_counts"')[2][:60]
        html = report.report(CATALOG, [Result(again, None, ())])
        assert html.count("no attention</text>") == 2 and "4 layers (2 with attention) x 2 to 4 heads" in html
        record_view.print_record(CATALOG, CATALOG.heads["previous-token"], again, path)
        said = capsys.readouterr().out
        assert "4 layers (2 with attention) x 2 to 4 heads" in said
        if not again.selected:
            assert "no head of 6 reaches" in said and said.count("L1H") + said.count("L3H") == 3

    def test_random_sets_hold_heads_of_the_model_alone(self, model: OpenModel) -> None:
        script, rule = load_script("induction"), CATALOG.heads["induction"].rule
        assert rule
        stimuli = draw(script, rule, model, 0, 2)
        moved = measure_effects(script, rule, model, stimuli.find, stimuli.task, [Head(3, 1)], seed=0)
        assert moved and moved.matched.distinct == 5
        assert {head for each in moved.matched.sets for head in each} == {*EVERY} - {Head(3, 1)}
        assert moved.random.shape == (5, len(moved.numbers)) and np.isfinite(moved.random).all()


def test_a_census_and_its_plan(model: OpenModel) -> None:
    settings = resolve_settings(CATALOG, 10**6, prompts=4, types=["previous-token", "rare-words", "truthfulness"])
    plan = running.plan_of(CATALOG, model, settings)
    found = labelling.census_of(CATALOG, plan, running.measure_types(CATALOG, model, plan))
    assert [Head.parse(each.head) for each in found.heads] == EVERY
    assert [each.status for each in found.types] == ["measured"] * 3
    assert all([len(row) for row in each.find or ()] == [0, 4, 0, 2] for each in found.types)
    assert found.summary.unknown == 6 - found.summary.labelled
    costs = planning.costs_of(CATALOG, model, settings, settings.types)
    assert costs.types == 3 and 0 < costs.least_seconds < costs.most_seconds


class TestCollaboration:
    def test_composition_is_ranked_among_heads_that_exist(self, model: OpenModel) -> None:
        paths = [(Head(1, sender), Head(3, receiver), "K") for sender in range(4) for receiver in range(2)]
        found = Weights(model).of(paths)  # type: ignore[arg-type]
        scores = np.array([each.score for each in found])
        assert (scores > 0).all()
        below = [100 * (scores < score).sum() / 7 for score in scores]
        assert [each.percentile for each in found] == pytest.approx(below)

    def test_other_senders_are_heads_of_the_model(self, model: OpenModel) -> None:
        paths = patching.Paths(model, load_script("induction"), [Head(1, 0)], [Head(3, 1)], "K", [Head(1, 0)], STANDARD)
        _, together, pairs = patching.measure(paths)
        assert list(pairs) == [(Head(1, 0), Head(3, 1))]
        assert len(pairs[Head(1, 0), Head(3, 1)].others) == 3, "the three other heads of the only layer before it"
        assert together and together.distinct_sets == 3
