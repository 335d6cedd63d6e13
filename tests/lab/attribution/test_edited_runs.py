"""Direct effects with an edit at one position, against a full run for each edit; and what they cost."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, roughen
from headatlas.lab import OpenModel, direct_logit_attribution, edits, forward, intervene, open_model, record
from headatlas.lab.ablation import mean_z
from headatlas.lab.activations.blocks import Block, find_blocks
from headatlas.lab.attribution import direct_effects, direct_effects_with_patched_input, edited_runs
from headatlas.lab.attribution.edited_runs import direct_effects_without
from headatlas.lab.attribution.frozen_norms import before_unembed, logit_direction
from headatlas.lab.attribution.logit_attribution import head_reads
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
LENGTHS = (20, 12, 20, 17)  # beyond the windows of 16, and within
SETS = [(), (Head(0, 1),), (Head(0, 3), Head(1, 2), Head(0, 1))]


def drawn(back: int = 1) -> list[Prompt]:
    """Prompts that are read so many tokens before their end."""
    generator, made = torch.Generator().manual_seed(1), []
    for number, length in enumerate(LENGTHS):
        one, other = torch.randint(1, 299, (2, length), generator=generator).tolist()
        rivals = (7, 9 + number)[: 1 + number % 2]
        made.append(Prompt(tuple(one), tuple(other), readouts=(Readout(length - back, 5 + number, rivals),)))
    return made


PROMPTS = drawn()


def rough(tiny: Tiny, family: str) -> OpenModel:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    return model


def one_by_one(model: OpenModel, prompts: list[Prompt]) -> np.ndarray:
    """[set prompt layer head], by a full run for each set and prompt."""
    means = mean_z(model, [prompt.corrupted for prompt in prompts], position=-1)
    found = np.empty((len(SETS), len(prompts), 2, 4))
    for place, heads in enumerate(SETS):
        for number, prompt in enumerate(prompts):
            [readout], end = prompt.readouts, [len(prompt.tokens) - 1]
            changes = []
            for layer, head in heads:
                changes += [
                    edits.zero("z", [Head(layer, head)], end),
                    edits.add("z", [Head(layer, head)], means.z[layer][0, 0, head], positions=end),
                ]
            with intervene(model, changes):
                split = direct_logit_attribution(
                    model, [prompt.tokens], [readout.answer], [readout.rivals], readout.position
                )
            found[place, number] = split.heads[0]
    return found


def layer_by_layer(model: OpenModel, prompts: list[Prompt]) -> np.ndarray:
    """[prompt layer head]: z of a run in which the layer's input is patched, where the clean run takes z."""
    found = np.empty((len(prompts), 2, 4))
    for number, prompt in enumerate(prompts):
        [readout] = prompt.readouts
        at = [readout.position]
        other, own = (record(model, [side], ["resid", "z"], at) for side in (prompt.corrupted, prompt.tokens))
        split = direct_logit_attribution(model, [prompt.tokens], [readout.answer], [readout.rivals], readout.position)
        for layer in range(2):
            with intervene(model, [edits.patch("resid", [layer], other, at)]):
                z = record(model, [prompt.tokens], ["z"], at, [layer])["z", layer]
            reads = head_reads(model, *read_at(model, prompt, layer))[0]
            assert torch.allclose((own["z", layer][:, 0] * reads).sum(-1)[0], split.heads[0, layer], atol=1e-4)
            found[number, layer] = (z[:, 0] * reads).sum(-1)[0]
    return found


def read_at(model: OpenModel, prompt: Prompt, layer: int) -> tuple[Block, int, torch.Tensor, torch.Tensor]:
    """What `head_reads` needs of a layer: its block, number, attention output and the direction that is read."""
    tokens, [readout] = torch.tensor([prompt.tokens]), prompt.readouts
    seen = record(model, tokens, ["attn_out", "resid"], [readout.position])
    unembedded, _ = logit_direction(model, tokens, [readout.answer], [readout.rivals])
    direction, _, _ = before_unembed(model, seen["resid", 2][:, 0].float(), unembedded)
    return find_blocks(model, tokens)[layer], layer, seen["attn_out", layer][:, 0].float(), direction


@pytest.mark.parametrize("family", EACH_FAMILY)
class TestEveryFamily:
    def test_knock_outs_are_those_of_full_runs(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        found, expected = direct_effects_without(model, PROMPTS, SETS), one_by_one(model, PROMPTS)
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)
        np.testing.assert_allclose(found[0], direct_effects(model, PROMPTS), atol=1e-5, rtol=1e-4)
        assert np.abs(expected[1:] - expected[0]).max() > 1e-3, "an effect too small to compare"

    def test_patched_inputs_are_those_of_full_runs(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        for back in (1, 3):
            prompts = drawn(back)
            found, expected = direct_effects_with_patched_input(model, prompts), layer_by_layer(model, prompts)
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)
            assert np.abs(expected - direct_effects(model, prompts)).max() > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
class TestWork:
    def test_all_edits_continue_from_one_clean_run(self, tiny: Tiny, family: str) -> None:
        model = rough(tiny, family)
        direct_effects(model, PROMPTS)  # the blocks are known now
        with count_passes(model) as work:
            direct_effects_without(model, PROMPTS, SETS)
        assert work.tokens == 2 * sum(LENGTHS) + (3 + 1) * 4, "prompts, corrupted, and ends: of three sets and unedited"
        with count_passes(model) as work:
            direct_effects_with_patched_input(model, PROMPTS)
        assert work.tokens == 2 * sum(LENGTHS) + 2 * 4, "prompts, corrupted, and ends: of all layers and unedited"

    def test_what_follows_the_readout_is_not_run(self, tiny: Tiny, family: str) -> None:
        model, prompts = rough(tiny, family), drawn(back=4)
        direct_effects(model, PROMPTS)
        with count_passes(model) as work:
            direct_effects_with_patched_input(model, prompts)
        assert work.tokens == 2 * (sum(LENGTHS) - 3 * 4) + 2 * 4

    def test_without_a_run_to_continue_all_edits_take_full_runs(
        self, tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = rough(tiny, family)
        fast = direct_effects_without(model, PROMPTS, SETS), direct_effects_with_patched_input(model, PROMPTS)
        monkeypatch.setattr(edited_runs, "clean_to_the_end", lambda *_: None)
        slow = direct_effects_without(model, PROMPTS, SETS), direct_effects_with_patched_input(model, PROMPTS)
        for one, other in zip(fast, slow, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-3)

    def test_a_run_that_does_not_continue_is_seen(
        self, tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, tokens = rough(tiny, family), torch.tensor([PROMPTS[0].tokens, PROMPTS[2].tokens])
        assert edited_runs.clean_to_the_end(model, tokens) is not None
        assert edited_runs.clean_to_the_end(model, tokens[:, :1]) is None, "nothing comes before"
        with intervene(model, [edits.scale("z", [Head(0, 1)], 2.0)]):
            forward(model, tokens)
            assert edited_runs.clean_to_the_end(model, tokens) is None, "an edit is in force"
        monkeypatch.setattr(edited_runs, "continue_from_cache", lambda *_: nullcontext())  # ends that see nothing else
        assert edited_runs.clean_to_the_end(model, tokens) is None


def test_heads_of_another_model_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="L2H0 is not in a model"):
        direct_effects_without(rough(tiny, "llama"), PROMPTS, [[Head(2, 0)]])
