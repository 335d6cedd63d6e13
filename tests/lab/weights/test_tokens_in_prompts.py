"""Copying of tokens as they stand in prompts, against the hidden states of plain transformers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from headatlas.lab import open_model
from headatlas.lab.weights import copying_in_prompts, places_of
from headatlas.lab.weights.ov_qk import copying_of_states
from headatlas.stimuli import Prompt

PROMPTS = [Prompt(each, each) for each in (tuple(range(3, 12)), tuple(range(20, 32)), (5, 40, 6, 41))]
PLACES = [[1, 4], [], [3, 0]]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_every_layer_reads_its_own_stream(tiny: Callable[[str], Path], family: str) -> None:
    model = open_model(str(tiny(family)))
    layers = model.anatomy.layers
    read, tokens = [], []
    with torch.no_grad():
        for prompt, places in zip(PROMPTS, PLACES, strict=True):
            hidden = model.model(torch.tensor([prompt.tokens]), output_hidden_states=True).hidden_states[:layers]
            read.append(torch.stack([each[0, places] for each in hidden]))
            tokens += [prompt.tokens[place] for place in places]
    expected = copying_of_states(model, tokens, torch.cat(read, 1), k=1000)
    found = copying_in_prompts(model, PROMPTS, PLACES, k=1000)
    assert torch.equal(found.copying, expected.copying) and torch.equal(found.suppression, expected.suppression)
    assert found.copying.max() > 0 and found.suppression.max() > 0


def test_of_many_places_some_are_read_evenly(tiny: Callable[[str], Path]) -> None:
    model = open_model(str(tiny("llama")))
    every = [list(range(len(prompt.tokens))) for prompt in PROMPTS]  # 25 places
    some = [[0, 4, 8], [3, 7, 11], [3]]
    found, expected = (
        copying_in_prompts(model, PROMPTS, every, 1000, most=7),
        copying_in_prompts(model, PROMPTS, some, 1000),
    )
    assert torch.equal(found.copying, expected.copying)
    assert not torch.equal(found.copying, copying_in_prompts(model, PROMPTS, every, 1000).copying)


def test_places_of_tokens() -> None:
    assert places_of(PROMPTS, {4, 5, 41}) == [[1, 2], [], [0, 3]]


def test_prompts_without_places_are_refused(tiny: Callable[[str], Path]) -> None:
    model = open_model(str(tiny("llama")))
    with pytest.raises(ValueError, match="has a place"):
        copying_in_prompts(model, PROMPTS, [[], [], []])
    with pytest.raises(ValueError, match="3 prompts and places for 1"):
        copying_in_prompts(model, PROMPTS, [[0]])
