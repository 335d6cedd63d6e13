"""What other heads do once some are knocked out: direct effects, the heads that carry a behaviour, causal tests."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import headatlas
from conftest import roughen
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    direct_logit_attribution,
    intervene,
    logit_difference,
    open_model,
    record,
)
from headatlas.lab.ablation import mean_z
from headatlas.lab.activations import edits
from headatlas.lab.attribution import direct_effects, direct_effects_without
from headatlas.lab.paths import Receiver, find_copying_movers, path_effects
from headatlas.notation import Head
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.script import PromptSample, Script
from headatlas.stimuli import Prompt, Readout, repeats

Tiny = Callable[[str], Path]
OUT = [Head(0, 1), Head(0, 3)]
LENGTHS = (9, 9, 9, 12, 12)


def drawn(length: int, seed: int) -> Prompt:
    rng = random.Random(seed)
    read, control = (tuple(rng.choices(range(1, 299), k=length)) for _ in range(2))
    return Prompt(read, control, readouts=(Readout(length - 1, rng.randrange(299), (rng.randrange(299),)),))


PROMPTS = [drawn(length, seed) for seed, length in enumerate(LENGTHS)]


@pytest.fixture(params=["gpt2", "llama", "gemma2"])
def rough(request: pytest.FixtureRequest, tiny: Tiny) -> OpenModel:
    model = open_model(str(tiny(request.param)))
    roughen(model.model)
    return model


def end_of_controls(model: OpenModel) -> list[torch.Tensor]:
    """Mean z over the last positions of the controls, one run after the other: per layer [head d_head]."""
    seen = [record(model, [prompt.corrupted], ["z"]) for prompt in PROMPTS]
    return [torch.stack([each["z", layer][0, -1] for each in seen]).mean(0) for layer in range(2)]


def test_the_mean_at_a_position_is_over_that_position_alone(rough: OpenModel) -> None:
    found = mean_z(rough, [prompt.corrupted for prompt in PROMPTS], position=-1)
    for layer, expected in enumerate(end_of_controls(rough)):
        torch.testing.assert_close(found.z[layer][0, 0], expected, atol=1e-5, rtol=1e-4)


def test_direct_effects_without_heads_are_those_of_a_run_in_which_they_give_their_means(rough: OpenModel) -> None:
    means = end_of_controls(rough)
    before, found = direct_effects_without(rough, PROMPTS, [(), OUT])
    for prompt, mine in zip(PROMPTS, found, strict=True):
        [readout], end = prompt.readouts, [len(prompt.tokens) - 1]
        changes = [
            edit
            for head in OUT
            for edit in (
                edits.zero("z", [head], end),
                edits.add("z", [head], means[head.layer][head.head], positions=end),
            )
        ]
        with intervene(rough, changes):
            split = direct_logit_attribution(rough, [prompt.tokens], [readout.answer], [readout.rivals])
        np.testing.assert_allclose(mine, split.heads[0], atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(before, direct_effects(rough, PROMPTS), atol=1e-4, rtol=1e-3)
    assert abs(found - before).max() > 1e-3, "knocking heads out must change something"


def test_path_effects_from_the_end_are_those_from_the_last_position(rough: OpenModel) -> None:
    ends = [Receiver(Head(1, 2), "k")]
    last, everywhere = (path_effects(rough, PROMPTS, logit_difference, ends, None, where) for where in ("last", None))
    for number, length in enumerate(LENGTHS):
        one = [PROMPTS[number]]
        expected = path_effects(rough, one, logit_difference, ends, None, [length - 1])
        np.testing.assert_allclose(last[number], expected[0], atol=1e-4)
    assert abs(last - everywhere).max() > 1e-4


def test_the_mover_of_a_planted_circuit_is_the_head_that_copies(planted_circuit: tuple[Path, Head, Head]) -> None:
    folder, _, induction = planted_circuit
    model = open_model(str(folder))
    prompts = [with_rival(repeats.written(model.vocabulary, 20, 2, random.Random(seed))) for seed in range(8)]
    words = list(range(1, 65))
    assert find_copying_movers(model, prompts, logit_difference, words) == [induction]
    assert find_copying_movers(model, prompts, logit_difference, words, least=1.5) == []


def with_rival(prompt: Prompt) -> Prompt:
    """Read at the last place, against the token that stands there."""
    last = prompt.readouts[-1]
    return Prompt(prompt.tokens, prompt.corrupted, readouts=(Readout(last.position, last.answer, (prompt.tokens[1],)),))


def test_silenced_heads_are_out_of_all_runs_of_a_causal_test_and_of_its_random_sets(specimen: OpenModel) -> None:
    catalog, rng = headatlas.load(), random.Random(0)
    prompts = [drawn(9, rng.randrange(1000)) for _ in range(6)]
    task, out, found = PromptSample(prompts, ["one"] * 6, "test"), [Head(1, 0), Head(2, 3)], Head(3, 2)
    module = SimpleNamespace(FAMILIES={}, BEHAVIOUR=logit_difference, silenced=lambda model: out)
    script = Script("made-up", Path(), module)  # type: ignore[arg-type]
    rule = catalog.heads["induction"].rule
    assert rule is not None
    effects = measure_effects(script, rule, specimen, task, task, [found], 0)
    assert effects is not None
    without, both = ablate_sets(specimen, prompts, logit_difference, [out, [*out, found]], rule.cause.intervention)
    np.testing.assert_allclose(effects.selected, without - both, atol=1e-5)
    assert not {head for each in effects.matched.sets for head in each} & {found, *out}
