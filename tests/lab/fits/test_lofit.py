"""Vectors learned for heads: they raise what they are to raise, and slopes are the slopes of what scaling does."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, ablate_sets, accuracy, log_probability, metric_per_prompt, open_model
from headatlas.lab.ablation import ZValues
from headatlas.lab.activations.edits import scale
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.fits import learn_each, learn_vectors, scaling_slopes
from headatlas.lab.fits.lofit import Kind
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from operations import tokens_run

LENGTHS = (9, 9, 12, 12, 12)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> OpenModel:
    return open_model(str(tiny(request.param)))


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    rng = random.Random(0)
    drawn = [tuple(rng.sample(range(1, 250), length)) for length in LENGTHS]
    return [Prompt(tokens=each, corrupted=each, readouts=(Readout(len(each) - 1, 77),)) for each in drawn]


def test_slopes_are_what_scaling_a_head_does_at_first(model: OpenModel, prompts: list[Prompt]) -> None:
    slopes = scaling_slopes(model, prompts)
    step = 0.1  # less drowns in rounding
    for head in (Head(0, 1), Head(1, 2)):
        with intervene(model, [scale("z", [head], 1 + step)]):
            more = metric_per_prompt(model, prompts, log_probability)
        with intervene(model, [scale("z", [head], 1 - step)]):
            less = metric_per_prompt(model, prompts, log_probability)
        expected = (more - less) / (2 * step)
        assert np.abs(expected).max() > 1e-4
        assert np.allclose(slopes[:, head.layer, head.head].sum(-1), expected, rtol=0.02, atol=5e-5)


def test_offsets_raise_the_behaviour_they_were_learned_for(model: OpenModel, prompts: list[Prompt]) -> None:
    before = {name: each.clone() for name, each in model.model.named_parameters()}
    offsets = learn_vectors(model, prompts, "offset", rate=0.05, epochs=20)
    reference = ZValues(tuple(each[None, None] for each in offsets), added=True)
    everything = [Head(layer, head) for layer in range(model.anatomy.layers) for head in range(model.anatomy.heads)]
    plain, steered = ablate_sets(model, prompts, log_probability, [(), everything], reference)
    assert (steered > plain + 0.1).all()
    assert all(torch.equal(each, before[name]) for name, each in model.model.named_parameters())


def test_scaling_is_learned_from_the_slopes_and_a_large_penalty_forbids_it(
    model: OpenModel, prompts: list[Prompt]
) -> None:
    same = [replace(prompts[0]) for _ in range(4)]
    one = learn_vectors(model, same, "scaling", rate=1e-3, epochs=1)
    slopes = scaling_slopes(model, same[:1])[0]
    clear = np.abs(slopes) > 1e-5  # Adam's first step goes as far whatever the slope
    assert clear.any() and (np.sign(one.numpy())[clear] == np.sign(slopes)[clear]).all()
    assert one.numpy()[clear] == pytest.approx(1e-3 * np.sign(slopes)[clear], rel=0.1)
    kept = learn_vectors(model, same, "scaling", l1=100.0, rate=1e-3, epochs=10)
    assert kept.abs().max() <= 2.1e-3  # it can only swing about zero


def sets_of_pairs(seed: int = 1) -> list[list[Prompt]]:
    """Three sets of prompts of two lengths that begin alike, the last of which is small."""
    rng = random.Random(seed)
    made = []
    for number in range(14):
        start = tuple(range(30, 30 + 6 + number % 2))
        tokens = (*start, *rng.sample(range(100, 250), 3))
        made.append(Prompt(tokens, tokens, readouts=(Readout(len(tokens) - 1, rng.choice((77, 78)), (79,)),)))
    return [made[:6], made[6:11], made[11:]]


@pytest.mark.parametrize("kind", ["scaling", "offset"])
def test_sets_that_share_passes_learn_what_each_learns_alone(model: OpenModel, kind: Kind) -> None:
    """Alone, and without trees of common beginnings: a hook is in force that does nothing."""
    sets = sets_of_pairs()
    together = learn_each(model, sets, kind, l1=1e-3, rate=0.02, batch=3)
    handle = model.anatomy.blocks[0].register_forward_hook(lambda *_: None)
    try:
        for number, each in enumerate(sets):
            alone = learn_vectors(model, each, kind, l1=1e-3, rate=0.02, batch=3)
            assert alone.abs().max() > 0.02 and (together[number] - alone).abs().mean() < 1e-4 * alone.abs().mean()
    finally:
        handle.remove()
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_common_beginnings_are_trained_through_once_per_step(model: OpenModel) -> None:
    sets = [[replace(each) for _ in range(2) for each in part] for part in sets_of_pairs()]
    learn_each(model, sets, "offset", epochs=1)  # what is tried once per model is tried now
    with tokens_run(model) as read:
        learn_each(model, sets, "offset", epochs=5)
    whole = 5 * sum(len(prompt.tokens) for each in sets for prompt in each)
    assert max(read) < 0.5 * whole


def test_what_has_no_gradient_is_refused(model: OpenModel, prompts: list[Prompt]) -> None:
    with pytest.raises(HeadatlasError, match="no gradient"):
        learn_vectors(model, prompts, "offset", metric=accuracy)
