"""Path effects of prompts of several lengths, from several sources, against path patching of single heads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from conftest import EACH_FAMILY, roughen
from headatlas.lab import OpenModel, intervene, log_probability, logit_difference, metric_per_prompt, open_model
from headatlas.lab.activations import edits
from headatlas.lab.paths import (
    Receiver,
    find_copying_movers,
    indirect_effects,
    path_effects,
    path_effects_from,
    path_runs,
    path_trials,
    prompt_effects,
)
from headatlas.lab.paths.path_patching import path_patch
from headatlas.lab.paths.second_run import SecondRun
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from oracles import naive_sweep

Tiny = Callable[[str], Path]
LENGTHS = (20, 12, 20, 17)  # beyond the windows of 16, and within
HEADS = [Head(layer, head) for layer in range(2) for head in range(4)]
LATE = (Receiver(Head(1, 2), "q"), Receiver(Head(1, 1), "k"), Receiver(Head(1, 3), "v"))


def drawn(lengths: Sequence[int] = LENGTHS) -> list[Prompt]:
    """Prompts read at their end, with two other prompts of the same length beside each."""
    generator, made = torch.Generator().manual_seed(1), []
    for number, length in enumerate(lengths):
        one, other, third = torch.randint(1, 299, (3, length), generator=generator).tolist()
        readout = Readout(length - 1, 5 + number, (7, 9 + number)[: 1 + number % 2])
        made.append(Prompt(tuple(one), tuple(other), readouts=(readout,), alternatives={"third": tuple(third)}))
    return made


PROMPTS = drawn()
OTHERS = [prompt.alternatives["third"] for prompt in PROMPTS]


def rough(tiny: Tiny, family: str) -> OpenModel:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    return model


def one_by_one(model: OpenModel, receivers: Any, source: Sequence[tuple[int, ...]] | None, last: bool) -> np.ndarray:
    """[prompt layer head] of single prompts and heads, in full runs, from the logits of all tokens."""
    found = np.empty((len(PROMPTS), 2, 4))
    for number, prompt in enumerate(PROMPTS):
        [readout], end = prompt.readouts, [len(prompt.tokens) - 1]
        other = prompt.corrupted if source is None else source[number]
        runs = path_runs(model, [prompt.tokens], [other])

        def lead(logits: torch.Tensor, readout: Readout = readout) -> torch.Tensor:
            return logits[:, -1, readout.answer] - logits[:, -1, list(readout.rivals)].mean(-1)

        for head in HEADS:
            effect = path_patch(runs, [head], receivers, lead, sender_positions=end if last else None)
            found[number, head.layer, head.head] = effect.item()
    return found


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_every_source_and_length_is_path_patching_of_each_head(tiny: Tiny, family: str) -> None:
    model = rough(tiny, family)
    for receivers in ("logits", LATE[:1], LATE):
        for where in ("last", None):
            found = path_effects_from(model, PROMPTS, logit_difference, (None, OTHERS), receivers, where)  # type: ignore[arg-type]
            for source, mine in zip((None, OTHERS), found.effects, strict=True):
                expected = one_by_one(model, receivers, source, where == "last")
                assert np.abs(mine - expected).max() < 1e-5
                assert np.abs(expected[:, 0]).max() > 1e-4, "an effect too small to compare"
    assert np.abs(found.effects[0] - found.effects[1]).max() > 1e-4
    assert np.abs(found.clean - metric_per_prompt(model, PROMPTS, logit_difference)).max() < 1e-5
    for tokens, mine in zip(([prompt.corrupted for prompt in PROMPTS], OTHERS), found.sources, strict=True):
        read = [Prompt(each, each, readouts=prompt.readouts) for prompt, each in zip(PROMPTS, tokens, strict=True)]
        assert np.abs(mine - metric_per_prompt(model, read, logit_difference)).max() < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
class TestWork:
    def test_the_second_run_starts_at_the_first_patched_position(
        self, tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, starts = rough(tiny, family), list[int]()
        plain = SecondRun.logits

        def noted(self: SecondRun, *given: Any) -> torch.Tensor:
            starts.append(self.clean.tokens.shape[1] - self.clean.start)
            return plain(self, *given)

        path_effects(model, PROMPTS, logit_difference, LATE, None, "last")  # what the model allows is known now
        monkeypatch.setattr(SecondRun, "logits", noted)
        path_effects(model, PROMPTS, logit_difference, LATE, None, "last")
        assert starts and set(starts) == {1}

    def test_only_positions_that_change_are_followed(self, tiny: Tiny, family: str) -> None:
        model, runs = rough(tiny, family), sum(2 * length for length in LENGTHS)
        for receivers, tokens in (("logits", 4 * (4 + 4 / 2)), (LATE, 4 * 4 + 4 * 4 / 2)):  # from each sender's layer
            for _ in range(2):
                with count_passes(model) as work:
                    path_effects(model, PROMPTS, logit_difference, receivers, None, "last")  # type: ignore[arg-type]
            assert work.tokens == runs + tokens, "the clean and the corrupted run, and one row for each head"

    def test_another_length_costs_no_full_run(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        for receivers, rows in (("logits", 0), (LATE, 3 * 2 / 2)):
            spent = []
            for length in (20, 18):
                for _ in range(2):
                    with count_passes(model) as work:
                        path_effects(model, drawn([length] * 3), logit_difference, receivers, None, "last")  # type: ignore[arg-type]
                    spent.append(work.tokens)
            assert spent[0] - spent[1] > 40, "a trial in full"
            assert spent[2] - spent[3] == rows, "three unpatched copies of the ends of two prompts"

    def test_heads_whose_factor_is_zero_are_not_run(self, tiny: Tiny, family: str) -> None:
        model, factor = rough(tiny, family), np.zeros((2, 4))
        whole = path_effects_from(model, PROMPTS, logit_difference, (None, OTHERS))
        factor[1, 2] = -0.5
        with count_passes(model) as work:
            found = path_effects_from(model, PROMPTS, logit_difference, (None, OTHERS), factor=factor)
        assert np.abs(found.effects - whole.effects * factor).max() < 1e-6
        assert np.abs(found.effects[:, :, 1, 2]).max() > 1e-4
        assert work.tokens == sum(3 * length for length in LENGTHS) + 2 * 4 / 2, "one head of the last layer"

    def test_indirect_effects_are_total_minus_direct(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        for metric in (logit_difference, log_probability):
            for where in ("last", [-2, -1]):
                found = indirect_effects(model, PROMPTS, metric, (None, OTHERS), where)  # type: ignore[arg-type]
                for source, mine in zip((None, OTHERS), found.effects, strict=True):
                    total = naive_sweep(model, PROMPTS, metric, "resample", where, source=source)  # type: ignore[arg-type]
                    direct = path_effects(model, PROMPTS, metric, "logits", source, "last")
                    assert np.abs(mine - (total.effect_per_prompt - direct)).max() < 1e-5
        assert np.abs(found.effects[:, :, 0]).max() > 1e-4 > np.abs(found.effects[:, :, 1]).max() * 10

    def test_indirect_effects_run_each_prompt_once(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        for _ in range(2):
            with count_passes(model) as work:
                indirect_effects(model, PROMPTS, logit_difference, (None, OTHERS), "last")
        rows = 2 * 4 * (4 + 4 / 2)  # each source, prompt and head, from its layer on; once held and once not
        check, together = 3 * 4, 8 * 4 / 2  # copies of the ends; the heads of both layers are in one pass
        assert work.tokens == sum(3 * length for length in LENGTHS) + 2 * rows + check + together


def test_a_batch_is_swept_when_enough_rows_wait(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = rough(tiny, "llama")
    done: list[int] = []
    whole = path_effects(model, PROMPTS, logit_difference, LATE, None, "last")
    monkeypatch.setattr(prompt_effects, "_ROWS", 1)
    apart = path_effects(model, PROMPTS, logit_difference, LATE, None, "last", progress=done.append)
    assert np.abs(apart - whole).max() < 1e-6 and sum(done) == len(PROMPTS)


def test_a_second_run_that_cannot_skip_positions_starts_at_the_first(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plain = rough(tiny, "llama"), SecondRun.logits

    def wrong(self: SecondRun, *given: Any) -> torch.Tensor:
        return plain(self, *given) + (self.clean.start > 0)

    expected = path_effects(model, PROMPTS, logit_difference, LATE, None, "last")
    path_trials._tried.clear()
    monkeypatch.setattr(SecondRun, "logits", wrong)
    found = path_effects(model, PROMPTS, logit_difference, LATE, None, "last")
    path_trials._tried.clear()
    assert np.abs(found - expected).max() < 1e-5


class TestMovers:
    WORDS = tuple(range(1, 40))

    def movers(self, model: OpenModel, **options: Any) -> list[Head]:
        return find_copying_movers(model, PROMPTS, logit_difference, self.WORDS, **options)

    def test_they_are_looked_for_once(self, tiny: Tiny) -> None:
        model = rough(tiny, "llama")
        found = self.movers(model, least=-1.0)
        with count_passes(model) as count:
            assert self.movers(model, least=-1.0) == found
            assert self.movers(model, least=9.0) == []
        assert count.passes == 0
        with count_passes(model) as count:
            find_copying_movers(model, PROMPTS[:2], logit_difference, self.WORDS)
        assert count.passes

    def test_they_are_looked_for_anew_where_the_model_is_another(self, tiny: Tiny) -> None:
        model = rough(tiny, "llama")
        self.movers(model)
        with torch.no_grad():
            next(iter(model.anatomy.projections.values())).weight.mul_(1.5)  # type: ignore[operator, union-attr]
        with count_passes(model) as count:
            self.movers(model)
        assert count.passes, "a weight has changed"
        with count_passes(model) as count, intervene(model, [edits.scale("z", [Head(0, 1)], 0.5)]):
            self.movers(model)
        assert count.passes, "an edit is in force"
        with count_passes(model) as count:
            self.movers(model)
        assert not count.passes, "nothing was kept of it"


def test_a_model_whose_positions_cannot_be_skipped_is_run_in_full(tiny: Tiny) -> None:
    """The second block reads what the first left beside the stream."""
    model = rough(tiny, "llama")
    first, second = model.anatomy.blocks
    left: list[torch.Tensor] = []
    assert isinstance(first.mlp, nn.Module) and isinstance(second.mlp, nn.Module)
    first.mlp.register_forward_hook(lambda _m, _i, output: left.append(output))
    second.mlp.register_forward_hook(lambda _m, _i, output: output + 10 * left[-1][0, -1, 0])
    alone = [each for each in PROMPTS if len(each.tokens) == 20][:1]
    found = path_effects_from(model, alone, logit_difference, (None, [OTHERS[0]]), "logits", "last")
    runs = path_runs(model, [alone[0].tokens], [OTHERS[0]])
    for head in HEADS:
        effect = path_patch(
            runs, [head], "logits", lambda logits: logits[:, -1, 5] - logits[:, -1, 7], sender_positions=[19]
        )
        assert found.effects[1, 0, head.layer, head.head] == pytest.approx(effect.item(), abs=1e-5)
