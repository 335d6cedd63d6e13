"""What the z of ablated heads becomes, against hooks on the output projection of plain transformers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY
from headatlas.lab import (
    ablate_sets,
    forward,
    log_probability,
    open_model,
    sweep,
)
from headatlas.lab.ablation import ZValues, ablate, mean_z
from headatlas.lab.hooks.attention_interface import attention_hooks
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from tiny_prompts import TOKENS, plain, prompt

Tiny = Callable[[str], Path]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_ablation_equals_a_hook_on_the_output_projection(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    head, size = Head(1, 2), model.anatomy.d_head

    def silence(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        z = inputs[0].clone()
        z[..., head.head * size : (head.head + 1) * size] = 0.0
        return (z,)

    reference = plain(tiny(family))
    path = next(name for name, module in model.model.named_modules() if module is model.anatomy.projections[1])
    reference.get_submodule(path).register_forward_pre_hook(silence)
    ours = forward(model, TOKENS, ablate(model.anatomy, [head], ZValues.zero(model.anatomy)))
    with torch.no_grad():
        theirs = reference(TOKENS).logits
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, plain(tiny(family))(TOKENS).logits.detach(), atol=1e-6)


def test_mean_is_the_mean_over_controls_without_the_first_position(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    seen: list[torch.Tensor] = []
    with attention_hooks({model.anatomy.attention[1]: lambda call, z: seen.append(z.clone())}), torch.no_grad():
        model.model(TOKENS)
    reference = mean_z(model, [tuple(row.tolist()) for row in TOKENS])
    assert torch.allclose(reference.z[1][0, 0], seen[0][:, 1:].mean((0, 1)), atol=1e-7)


def test_resampling_from_itself_changes_nothing_and_from_another_prompt_does(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    read = (Readout(23, answer=5),)
    same = [prompt(row, readouts=read) for row in TOKENS]
    other = [prompt(row, row.flip(0), readouts=read) for row in TOKENS]
    heads = [[], [Head(0, 1), Head(1, 3)]]
    kept = ablate_sets(model, same, log_probability, heads, "resample")
    moved = ablate_sets(model, other, log_probability, heads, "resample")
    assert np.allclose(kept[0], kept[1], atol=1e-7)
    assert np.allclose(kept[0], moved[0], atol=1e-7)
    assert np.abs(moved[0] - moved[1]).min() > 1e-6


def test_ablating_a_set_is_not_the_sum_of_its_heads_done_twice(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    prompts = [prompt(row, readouts=(Readout(23, answer=5),)) for row in TOKENS]
    once, twice = ablate_sets(model, prompts, log_probability, [[Head(1, 0)], [Head(1, 0), Head(1, 0)]], "zero")
    assert np.array_equal(once, twice)


@pytest.mark.parametrize("heads", [[], [Head(2, 0)], [Head(0, 4)]])
def test_refuses_no_heads_and_heads_that_are_not_there(tiny: Tiny, heads: list[Head]) -> None:
    anatomy = open_model(str(tiny("gpt2"))).anatomy
    with pytest.raises(ValueError, match=r"no heads|is not in a model"):
        ablate(anatomy, heads, ZValues.zero(anatomy))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_value_of_each_prompt_gives_what_it_gives_alone(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    prompts = [prompt(row, readouts=(Readout(23, answer=5),)) for row in TOKENS]
    vectors = torch.randn(3, 2, 4, 8, generator=torch.Generator().manual_seed(3))
    place = {each.tokens: number for number, each in enumerate(prompts)}

    def given(batch: Sequence[Prompt]) -> ZValues:
        return ZValues.of_prompts(model.anatomy, vectors[[place[each.tokens] for each in batch]])

    together = sweep(model, prompts, log_probability, given, "last").effect
    assert abs(together).min() > 0
    for number, each in enumerate(prompts):
        alone = sweep(model, [each], log_probability, ZValues.of_heads(model.anatomy, vectors[number]), "last").effect
        assert np.allclose(together[..., number], alone[..., 0], atol=1e-5)
