"""Other attention weights for heads, against editing the same pattern in a whole run and against means of values."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, loud
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    attribution_patching,
    intervene,
    log_probability,
    metric_per_prompt,
    record,
    sweep,
)
from headatlas.lab.ablation import ZValues, with_corrupted_patterns, with_uniform_patterns
from headatlas.lab.activations import edits
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]


def drawn(length: int, seed: int) -> Prompt:
    tokens = torch.randint(1, 299, (2, length), generator=torch.Generator().manual_seed(seed)).tolist()
    return Prompt(tuple(tokens[0]), tuple(tokens[1]), readouts=(Readout(length - 1, answer=5),))


PROMPTS = [drawn(9, 1), drawn(6, 2), drawn(9, 3)]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_a_corrupted_pattern_is_that_of_the_corrupted_prompt_over_the_values_of_the_prompt(
    family: str, tiny: Tiny
) -> None:
    model = loud(tiny(family))
    sets = [[Head(0, 1)], [Head(1, 0)], [Head(1, 0), Head(1, 1)]]
    values = ablate_sets(model, PROMPTS, log_probability, [(), *sets], with_corrupted_patterns(model))
    for number, prompt in enumerate(PROMPTS):
        seen = record(model, [list(prompt.corrupted)], ["pattern"])
        for heads, found in zip(sets, values[1:], strict=True):
            with intervene(model, [edits.patch("pattern", heads, seen)]):
                expected = metric_per_prompt(model, [prompt], log_probability)[0]
            assert found[number] == pytest.approx(expected, abs=1e-4)
    assert np.abs(values[1:] - values[0]).max() > 1e-3


def means(model: OpenModel, window: int) -> Callable[[Sequence[Prompt]], ZValues]:
    """The mean of the last `window` values, or of as many as there are, for models without a gate."""

    def patch(batch: Sequence[Prompt]) -> ZValues:
        seen = record(model, [list(prompt.tokens) for prompt in batch], ["v"])
        made = {}
        for layer, shape in model.anatomy.shapes.items():
            v = seen["v", layer].float()  # [batch key head d_head], of query heads or of those that share them
            v = v.repeat_interleave(shape.heads // v.shape[2], dim=2)
            rows = [v[:, max(0, query + 1 - window) : query + 1].mean(1) for query in range(v.shape[1])]
            made[layer] = torch.stack(rows, 1)
        return ZValues(made)

    return patch


@pytest.mark.parametrize("family, window", [("gpt2", 99), ("llama", 99), ("mistral", 16)])
def test_a_uniform_pattern_gives_the_mean_of_the_values_in_sight(family: str, window: int, tiny: Tiny) -> None:
    model = loud(tiny(family))
    prompts = [drawn(24, 1), drawn(6, 2), drawn(24, 3)]
    sets = [[Head(0, 1)], [Head(1, 0), Head(1, 3)]]
    found, expected = (
        ablate_sets(model, prompts, log_probability, [(), *sets], patch)
        for patch in (with_uniform_patterns(model), means(model, window))
    )
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.abs(found[1:] - found[0]).max() > 1e-3


def test_a_first_order_estimate_takes_a_patch_and_nears_the_exact_effect_where_it_is_small(tiny: Tiny) -> None:
    model = loud(tiny("gpt2"))

    def slight(batch: Sequence[Prompt]) -> ZValues:
        """A thousandth of the way to uniform attention."""
        clean = record(model, [list(prompt.tokens) for prompt in batch], ["z"])
        other = with_uniform_patterns(model)(batch)
        return ZValues({layer: 0.999 * clean["z", layer].float() + 0.001 * z for layer, z in other.z.items()})

    exact = sweep(model, PROMPTS, log_probability, slight).effect
    estimate = attribution_patching(model, PROMPTS, log_probability, slight).estimate
    assert np.abs(exact).max() > 1e-5
    assert estimate == pytest.approx(exact, abs=0.05 * np.abs(exact).max())
