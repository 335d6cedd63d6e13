"""Hiding keys from heads, against knocking the same edges out in a whole run; scores of whole patterns."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, loud
from headatlas.lab import ablate_sets, intervene, log_probability, metric_per_prompt, pattern_scores, score_heads
from headatlas.lab.ablation import without_keys
from headatlas.lab.activations import edits
from headatlas.lab.attention import KeyMass
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]


def drawn(length: int, seed: int) -> Prompt:
    tokens = torch.randint(1, 299, (2, length), generator=torch.Generator().manual_seed(seed)).tolist()
    return Prompt(tuple(tokens[0]), tuple(tokens[1]), readouts=(Readout(length - 1, answer=5),))


PROMPTS = [drawn(9, 1), drawn(6, 2), drawn(9, 3)]  # of two lengths, the ones of one length not side by side


def far(prompt: Prompt) -> Iterable[tuple[int, int]]:
    """More edges in some prompts than in others."""
    reach = 2 + prompt.tokens[0] % 2
    return [(query, key) for query in range(len(prompt.tokens)) for key in range(query - reach)]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_hiding_from_heads_of_one_layer_is_knocking_out(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    sets = [[Head(0, 1)], [Head(1, 0)], [Head(1, 0), Head(1, 1)]]
    values = ablate_sets(model, PROMPTS, log_probability, [(), *sets], without_keys(model, far))
    for number, prompt in enumerate(PROMPTS):
        for heads, found in zip(sets, values[1:], strict=True):
            with intervene(model, [edits.knockout(heads, list(far(prompt)))]):
                expected = metric_per_prompt(model, [prompt], log_probability)[0]
            assert found[number] == pytest.approx(expected, abs=1e-4)
    assert np.abs(values[1:] - values[0]).max() > 1e-3


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_patterns_are_those_of_each_prompt_in_order(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    for control in (False, True):
        found = pattern_scores(model, PROMPTS, lambda prompt, pattern: pattern[..., -1, 1:3].sum(-1), control)
        for number, prompt in enumerate(PROMPTS):
            tokens = prompt.corrupted if control else prompt.tokens
            mass = score_heads(model, [tokens], {"mass": KeyMass([1, 2])}, [len(tokens) - 1])["mass"]
            assert found[number] == pytest.approx(mass[0, ..., 0].numpy(), abs=1e-5)


def test_measures_are_given_their_own_prompt_and_causal_rows(tiny: Tiny) -> None:
    model = loud(tiny("gpt2"))

    def measure(prompt: Prompt, pattern: np.ndarray) -> np.ndarray:
        assert pattern.shape == (model.anatomy.layers, model.anatomy.heads, len(prompt.tokens), len(prompt.tokens))
        assert np.triu(pattern, 1).max() == 0 and np.allclose(pattern.sum(-1), 1, atol=1e-5)
        return np.array(prompt.tokens[:2])

    found = pattern_scores(model, PROMPTS, measure)
    assert found.tolist() == [list(map(float, prompt.tokens[:2])) for prompt in PROMPTS]
