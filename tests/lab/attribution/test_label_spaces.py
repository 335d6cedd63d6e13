"""What heads write into the space of some labels, against projections written out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import roughen
from headatlas.lab import OpenModel, open_model, record
from headatlas.lab.attribution import direct_effects, label_space
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
ROWS = torch.randint(1, 299, (3, 12), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(params=["gpt2", "llama", "gemma2"])
def model(request: pytest.FixtureRequest, tiny: Tiny) -> OpenModel:
    found = open_model(str(tiny(request.param)))
    roughen(found.model)
    return found


def prompts(*rivals: int) -> list[Prompt]:
    made = []
    for row, length in zip(ROWS, (12, 9, 12), strict=True):
        tokens, other = tuple(row[:length]), tuple(300 - each for each in row[:length])
        made.append(Prompt(tokens, other, readouts=(Readout(length - 1, 5, rivals),)))
    return made


@pytest.mark.parametrize("corrupted", [False, True])
def test_the_part_towards_the_answer_is_the_direct_effect_up_to_one_factor_per_prompt(
    model: OpenModel, corrupted: bool
) -> None:
    made = prompts(6, 7)
    found, effects = label_space(model, made, corrupted), direct_effects(model, made, corrupted=corrupted)
    for number in range(3):
        ratio = effects[number] / found.toward[number]
        assert ratio.min() > 0 and np.allclose(ratio, ratio[0, 0], rtol=1e-3)


def test_the_length_is_that_of_the_projection_of_what_the_head_writes(tiny: Tiny) -> None:
    for family, gain, centred in (("gpt2", "transformer.ln_f", True), ("llama", "model.norm", False)):
        model, made = open_model(str(tiny(family))), prompts(6, 7)
        roughen(model.model)
        found = label_space(model, made)
        weight = model.model.get_output_embeddings().weight.detach().double()
        rows = (weight[[5, 6, 7]] - weight.mean(0)) * model.model.get_submodule(gain).weight.detach().double()
        rows = rows - rows.mean(1, keepdim=True) if centred else rows
        basis, _ = np.linalg.qr(rows.numpy().T)  # [d_model axis]
        for number, prompt in enumerate(made):
            end = len(prompt.tokens) - 1
            seen = record(model, [prompt.tokens], ["result", "resid"], [end])
            for layer in range(2):
                wrote = seen["result", layer][0, 0].double().numpy()  # [head d_model]
                assert np.allclose(found.length[number, layer], np.linalg.norm(wrote @ basis, axis=-1), rtol=1e-3)
            stream = seen["resid", 2][0, 0].double().numpy()
            assert found.stream[number] == pytest.approx(np.linalg.norm(stream @ basis), rel=1e-3)


def test_no_part_is_longer_than_the_projection_and_more_labels_make_it_longer(model: OpenModel) -> None:
    two, three = label_space(model, prompts(6)), label_space(model, prompts(6, 7))
    assert (abs(three.toward) <= three.length * (1 + 1e-6)).all()
    assert (three.length >= two.length * (1 - 1e-6)).all() and (three.stream > two.stream).all()


def test_labels_without_rivals_and_equal_labels_are_refused(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    with pytest.raises(ValueError, match="at least one rival"):
        label_space(model, prompts())
    with pytest.raises(Exception, match="the same unembedding"):
        label_space(model, prompts(6, 6))
