"""Prompts of several lengths swept together, and sweeps from several sources, against full runs of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, loud
from headatlas.lab import OpenModel, log_probability, logit_difference, metric_per_prompt
from headatlas.lab.ablation import patch_sweeps, sweep_engine
from headatlas.lab.ablation.clean_run import CleanRun
from headatlas.lab.ablation.mixed_lengths import joined_runs
from headatlas.lab.ablation.replacement import Replacement
from headatlas.lab.ablation.sweep_batches import run_sweep
from headatlas.lab.ablation.sweep_engine import naive
from headatlas.lab.ablation.sweep_task import HeadSet, SweepTask
from headatlas.lab.ablation.sweeps import ablate_sets, sweep
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from oracles import naive_sweep

Tiny = Callable[[str], Path]
LENGTHS = (24, 20, 24, 9, 21, 20)  # beyond the windows of 16, and within


def drawn(lengths: Sequence[int] = LENGTHS, back: Sequence[int] = (1,)) -> list[Prompt]:
    """Prompts that are read so many tokens before their end, with another prompt of the same length beside each."""
    generator, made = torch.Generator().manual_seed(1), []
    for number, length in enumerate(lengths):
        one, other, third = torch.randint(1, 299, (3, length), generator=generator).tolist()
        readouts = tuple(Readout(length - each, 5 + number, (7, 9 + number)[: 1 + number % 2]) for each in back)
        made.append(Prompt(tuple(one), tuple(other), readouts=readouts, alternatives={"third": tuple(third)}))
    return made


PROMPTS = drawn()
OTHERS = [prompt.alternatives["third"] for prompt in PROMPTS]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_last_positions_of_several_lengths_equal_full_runs(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    for prompts in (PROMPTS, drawn(back=(1, 2))):
        for kind, positions in (("mean", "last"), ("resample", [-2]), ("position mean", [-1, -3])):
            fast = sweep(model, prompts, logit_difference, kind, positions)  # type: ignore[arg-type]
            slow = naive_sweep(model, prompts, logit_difference, kind, positions)  # type: ignore[arg-type]
            assert fast.notes == () and "tokens" in fast.ways
            assert np.abs(fast.clean - slow.clean).max() < 1e-5
            assert np.abs(fast.ablated - slow.ablated).max() < 1e-5
            assert np.abs(slow.effect).max() > 1e-3, "an effect too small to compare"
            assert model.model not in sweep_engine._apart


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
class TestTogether:
    def passes(self, model: OpenModel, prompts: Sequence[Prompt], monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Prompts in each rerun of a sweep."""
        seen: list[int] = []
        plain = sweep_engine.rerun_from

        def counted(model: OpenModel, clean: CleanRun, *given: Any) -> torch.Tensor:
            seen.append(len(clean.tokens))
            return plain(model, clean, *given)

        monkeypatch.setattr(sweep_engine, "rerun_from", counted)
        sweep(model, prompts, logit_difference, "mean", "last")
        monkeypatch.undo()
        return seen

    def test_all_lengths_are_in_one_rerun(self, family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
        assert set(self.passes(loud(tiny(family)), PROMPTS, monkeypatch)) == {len(PROMPTS)}

    def test_prompts_read_elsewhere_run_by_themselves(
        self, family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, mixed = loud(tiny(family)), [*PROMPTS, *drawn((22, 19), (1, 3))]
        assert set(self.passes(model, mixed, monkeypatch)) == {len(PROMPTS), 2}
        fast, slow = (each(model, mixed, logit_difference, "mean", "last") for each in (sweep, naive_sweep))
        assert np.abs(fast.ablated - slow.ablated).max() < 1e-5

    def test_a_model_that_does_not_bear_it_runs_each_length_by_itself(
        self, family: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def misplaced(runs: Sequence[CleanRun]) -> CleanRun:
            joined = joined_runs(runs)
            keys_seen = {  # the padding, too
                layer: replace(each, attended=(*each.attended[:2], torch.ones_like(each.attended[2])))
                for layer, each in joined.layers.items()
                if each.attended and each.attended[2] is not None
            }
            return replace(joined, layers=keys_seen)

        model = loud(tiny(family))
        monkeypatch.setattr(sweep_engine, "joined_runs", misplaced)
        fast, slow = (each(model, PROMPTS, logit_difference, "mean", "last") for each in (sweep, naive_sweep))
        assert np.abs(fast.ablated - slow.ablated).max() < 1e-5 and fast.ways == ("tokens",)
        assert model.model in sweep_engine._apart

    def test_sets_of_heads(self, family: str, tiny: Tiny) -> None:
        model = loud(tiny(family))
        sets = [[], [Head(1, 2)], [Head(0, 0), Head(1, 3)]]
        found = ablate_sets(model, PROMPTS, logit_difference, sets, "resample", "last")
        chosen = [HeadSet(tuple(heads)) for heads in sets[1:]]
        task = SweepTask(model, logit_difference, chosen, [Replacement(model, PROMPTS, "resample", None)], "last", None)
        slow = run_sweep(task, PROMPTS, False, naive)
        assert np.abs(found[1:] - slow.ablated).max() < 1e-5 and np.abs(found[0] - slow.clean).max() < 1e-5
        assert np.abs(slow.ablated - slow.clean).max() > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("positions", ["all", "last", [-2]])
def test_sweeps_from_several_sources_are_those_from_each(family: str, positions: Any, tiny: Tiny) -> None:
    model = loud(tiny(family))
    for metric in (logit_difference, log_probability):
        found = patch_sweeps(model, PROMPTS, metric, (None, OTHERS), positions)
        for source, mine in zip((None, OTHERS), found, strict=True):
            slow = naive_sweep(model, PROMPTS, metric, "resample", positions, source=source)
            assert np.abs(mine.ablated - slow.ablated).max() < 1e-5 and np.abs(mine.clean - slow.clean).max() < 1e-5
            tokens = [prompt.corrupted for prompt in PROMPTS] if source is None else source
            read = [replace(prompt, tokens=each) for prompt, each in zip(PROMPTS, tokens, strict=True)]
            assert np.abs(mine.sources - metric_per_prompt(model, read, metric)).max() < 1e-5
        assert np.abs(found[0].ablated - found[1].ablated).max() > 1e-3


def test_only_patching_has_sources(tiny: Tiny) -> None:
    model = loud(tiny("llama"))
    assert np.isnan(sweep(model, PROMPTS, logit_difference, "mean").sources).all()
    with pytest.raises(ValueError, match="no sources"):
        patch_sweeps(model, PROMPTS, logit_difference, ())


def test_another_length_costs_no_full_run(tiny: Tiny) -> None:
    """Once positions were skipped at one length, others are checked without one."""
    for family in ("gpt2", "llama", "gemma3"):
        model = loud(tiny(family))
        work = []
        for length in (24, 20, 18):
            with count_passes(model) as counted:
                sweep(model, drawn([length] * 4), logit_difference, "resample", "last")
            swept = 4 * (length * 2 + 4 * (2 + 1) / 2)  # the clean run, the sources, and each head from its layer on
            work.append(counted.tokens - swept)
        assert work[0] > 40, "a trial in full"
        assert 0 <= work[1] <= 14 and 0 <= work[2] <= 14, (
            "three copies of two ends, and heads of both layers in one pass"
        )
