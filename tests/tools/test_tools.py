"""The programs that compare headatlas with other libraries, as far as they run without those."""

from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch

from conftest import load_tool
from headatlas.lab import OpenModel, logit_difference, open_model, path_patch, sweep
from headatlas.lab.paths import path_runs
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

cross_check = load_tool("cross_check")  # the two others import it by this name
contenders = load_tool("contenders")
bench = load_tool("bench")
type_seconds = load_tool("type_seconds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random model."""
    folder = tmp_path_factory.mktemp("small")
    cross_check.save_model(cross_check.SMALL, folder)
    return folder


def test_a_difference_and_a_vanishing_quantity_are_both_noticed() -> None:
    ones = torch.ones(2, 3)
    assert cross_check.Comparison("", ones, ones + 5e-5).agrees
    assert not cross_check.Comparison("", ones, ones + 2e-4).agrees
    assert not cross_check.Comparison("", ones, ones.where(ones < 0, float("nan"))).agrees
    assert not cross_check.Comparison("", ones[:1], ones).agrees
    assert not cross_check.Comparison("", ones * 1e-5, ones * 1e-5).agrees


def test_a_patch_goes_where_it_is_meant_to() -> None:
    z, pattern = torch.zeros(1, 3, 4, 5), torch.zeros(1, 4, 3, 3)
    assert cross_check.put("z", 2, torch.ones_like(z))(z, None).nonzero()[:, 2].unique().tolist() == [2]
    last = cross_check.put("z", 2, 1.0, last=True)(z, None)
    assert last[:, -1, 2].all() and last.sum() == 5
    assert cross_check.put("pattern", 3, torch.ones_like(pattern))(pattern, None).nonzero()[:, 1].unique() == 3
    assert not z.any()


@pytest.mark.parametrize("positions", ["all", "last"])
def test_ablations_agree_with_plain_hooks(folder: Path, positions: str) -> None:
    ours = contenders.our_ablation(folder, positions, share=1)
    plain = contenders.plain_ablation(folder, positions)
    prompts = cross_check.draw_prompts(cross_check.SMALL.vocabulary, 2, 12)
    values = ours(prompts, 0)
    assert len(values) == 8
    for repeat in range(2):
        with torch.no_grad():
            [(head, value)] = plain(prompts, repeat).items()
        assert values[head] == pytest.approx(value, abs=1e-5)


def test_scores_agree_with_plain_patterns(folder: Path) -> None:
    prompts = cross_check.draw_prompts(cross_check.SMALL.vocabulary, 2, 12)
    ours = contenders.our_scores(folder)(prompts, 0)
    with torch.no_grad():
        plain = contenders.plain_scores(folder)(prompts, 0)
    assert ours == pytest.approx(plain, abs=1e-6) and len(ours) == 16


@pytest.mark.parametrize("frozen", [False, True])
def test_paths_of_all_heads_are_those_of_each(folder: Path, frozen: bool) -> None:
    prompts = cross_check.draw_prompts(cross_check.SMALL.vocabulary, 3, 12)
    found = contenders.our_paths(folder, frozen)(prompts, 0)
    model = open_model(str(folder))
    mlps: Literal["recomputed", "frozen"] = "frozen" if frozen else "recomputed"
    runs = path_runs(
        model, cross_check.tokens_of(prompts), torch.tensor([each.corrupted for each in prompts]), mlps=mlps
    )
    for head in (Head(0, 3), Head(1, 1)):
        alone = path_patch(runs, [head], "logits", lambda logits: cross_check.difference_at_last(logits, prompts))
        assert found[str(head)] == pytest.approx(float(alone.mean()), abs=1e-5)
    assert len(found) == 8 and contenders.products(folder)(prompts, 0) == {}


def test_a_measurement_repeats_and_counts_memory(folder: Path) -> None:
    def prepare(_: Path) -> object:
        return lambda prompts, repeat: {str(repeat): float(torch.ones(len(prompts) << 20).sum())}  # 4 MB a prompt

    setting = bench.Setting(folder, vocabulary=99, seconds=0.0, threads=1)
    cost = bench.measure(setting, prepare, 16, 4)
    assert len(cost.seconds) == len(cost.memory) == len(cost.values) == bench.FEWEST
    assert cost.memory == pytest.approx([64, 64], abs=16)


def test_a_ratio_is_judged_by_its_median_and_its_spread() -> None:
    ratio = bench.Ratio.of([8.0, 10.0, 12.0], [2.0, 2.0, 4.0], least=1e-6)
    assert (ratio.median, ratio.low, ratio.high) == (5.0, 2.0, 6.0)
    verdicts = [ratio.verdict(target) for target in (2, 4, 5.5, 7)]
    assert verdicts == ["met", "met within the spread", "MISSED within the spread", "MISSED"]


def test_different_results_are_named() -> None:
    ours = bench.Cost((1.0,), (1.0,), {"L0H0": 1.0, "L0H1": 2.0})
    cost = partial(bench.Cost, (1.0,), (1.0,))
    assert bench.disagreement(cost({"L0H1": 2.0}), ours) is None
    assert "L0H1 differs by 1.0e-03" in bench.disagreement(cost({"L0H1": 2.001}), ours)
    assert bench.disagreement(cost({}), ours)


def test_the_rows_are_those_of_the_targets() -> None:
    rows = list(bench.jobs(cross_check.GPT2, small=False))
    assert [(job.prompts, job.length, job.faster, job.smaller, job.within) for job in rows] == [
        (4, 256, 2, 5, None),
        (2, 1024, 4, 10, None),
        (4, 256, 3, None, None),
        (4, 256, 50, None, None),
        (64, 16, None, None, 180),
        (64, 16, None, None, 180),
    ]
    assert [row.ours.factor * row.prompts for row in rows[4:]] == [5000, 5000]
    assert rows[2].floor.factor == 66  # of 144 passes: half the layers, and half a layer less


class TestTypeSeconds:
    def test_work_is_counted_in_tokens_that_pass_all_layers(self, specimen: OpenModel) -> None:
        """Induction runs each prompt and its corrupted prompt once."""
        row = type_seconds.timed("induction", specimen, prompts=2, limit=100)
        assert (row.prompts, row.planned) == (6, 72)
        assert row.work == pytest.approx(2 * row.tokens)
        assert type_seconds.ratio(row) == "2.0"

    def test_counting_keeps_no_layer_from_being_skipped(self, specimen: OpenModel) -> None:
        """A sweep at the last position of 48 heads computes 1 token of 30 for each, not all."""
        prompts = [Prompt(tuple(range(5, 35)), tuple(range(5, 35)), readouts=(Readout(29, 3, (4,)),))] * 2
        with count_passes(specimen) as count:
            done = sweep(specimen, prompts, logit_difference, "zero", "last")
        assert done.ways == ("tokens",)
        assert count.tokens < 48 * 60 / 3

    def test_a_limit_stops_a_detector_and_no_fallback_hides_it(self, specimen: OpenModel) -> None:
        row = type_seconds.timed("accuracy", specimen, prompts=24, limit=1)
        assert row.seconds is None and type_seconds.say(row) == "> 1 s"
