"""What changes in attention while a copy of a model learns, against plain transformers and autograd."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, loud
from headatlas.lab import log_probability, metric_per_prompt, open_model, record
from headatlas.lab.ablation import attending_as
from headatlas.lab.fits import learn_in_turn
from headatlas.lab.fits.continued_training import loss_of, moved_at_random, train_on, weights_of
from headatlas.lab.fits.retention import attention_patterns, mean_squared_change, task_sensitivity
from headatlas.lab.loading.copying import copied
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout
from tiny_prompts import TOKENS, plain

Tiny = Callable[[str], Path]


def prompts(count: int = 3, length: int = 12) -> list[Prompt]:
    """Prompts of random tokens, with the answer of each."""
    rows = [tuple(row[:length].tolist()) for row in TOKENS[:count]]
    return [Prompt(row, row, readouts=(Readout(length - 1, 7 + number),)) for number, row in enumerate(rows)]


@pytest.mark.parametrize("family", ["gpt2", "llama", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_sensitivity_is_the_squared_gradient_at_the_weights_of_plain_transformers(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    output = plain(tiny(family), attn_implementation="eager")
    output.load_state_dict(model.model.state_dict())
    total = 0.0
    for each in prompts():
        seen = output(torch.tensor([each.tokens]), output_attentions=True)
        loss = -seen.logits[0, -1].log_softmax(-1)[each.readouts[0].answer]
        gradients = torch.stack(torch.autograd.grad(loss, seen.attentions))[:, 0]  # [layer head query key]
        total = total + gradients.tril().square().sum((-1, -2))
    expected = total / total.sum(1, keepdim=True)
    found = task_sensitivity(model, prompts())
    assert found.sum(1) == pytest.approx(1) and found == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-6)


def test_change_is_of_the_head_whose_queries_changed(tiny: Tiny) -> None:
    model, head = loud(tiny("gpt2")), Head(1, 2)
    before = attention_patterns(model, prompts())
    assert before[0].shape == (2, 4, 12, 12) and before[0].sum(-1) == pytest.approx(1)
    size = model.anatomy.d_head
    with torch.no_grad():
        model.model.transformer.h[1].attn.c_attn.weight[:, head.head * size :][:, :size] *= 0.5
    after = attention_patterns(model, prompts())
    change = mean_squared_change(before, after)
    assert change.shape == (3, 2, 4) and (change[:, *head] > 0).all()
    by_hand = ((after[1] - before[1]) ** 2)[head][np.tril_indices(12)].mean()
    assert change[1][head] == pytest.approx(by_hand)
    change[:, *head] = 0
    assert not change.any()


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_a_copy_is_trained_and_the_model_is_not(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    before = metric_per_prompt(model, prompts(), log_probability)
    other = copied(model)
    assert (metric_per_prompt(other, prompts(), log_probability) == before).all()
    train_on(other, prompts(), steps=3, rate=1e-2)
    assert (metric_per_prompt(other, prompts(), log_probability) > before + 0.5).all()
    assert (metric_per_prompt(model, prompts(), log_probability) == before).all()


def test_training_is_the_same_every_time_and_in_batches_of_any_size(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    one, two = (learn_in_turn(model, [prompts(), prompts(2, 9)], steps=2, rate=1e-3) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.importance, two.importance, strict=True))
    assert [each.shape for each in one.importance] == [(3, 2, 4), (2, 2, 4)] == [each.shape for each in one.chance]
    summed = sum(loss_of(model, [each]).item() for each in prompts())
    assert loss_of(model, prompts()).item() == pytest.approx(summed, rel=1e-5)


def test_a_random_direction_is_as_long_and_is_taken_back(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt2")))
    start = weights_of(model)
    train_on(model, prompts(), steps=2, rate=1e-3)
    learned = weights_of(model)
    with moved_at_random(model, start, seed=0):
        for before, after, now in zip(start, learned, weights_of(model), strict=True):
            assert (now - before).norm() == pytest.approx((after - before).norm().item(), rel=1e-3, abs=1e-7)
            if before.ndim > 1:
                cosine = torch.nn.functional.cosine_similarity((now - before).flatten(), (after - before).flatten(), 0)
                assert abs(cosine) < 0.3
    assert all((a == b).all() for a, b in zip(learned, weights_of(model), strict=True))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_attending_as_another_model_takes_its_weights_and_keeps_the_values(family: str, tiny: Tiny) -> None:
    model = loud(tiny(family))
    other = copied(model)
    train_on(other, prompts(), steps=3, rate=1e-2)
    z = attending_as(model, other)(prompts()).z
    patterns = attention_patterns(other, prompts())
    values = record(model, [each.tokens for each in prompts()], ["v"])
    for layer in range(2):
        value = values["v", layer].repeat_interleave(4 // values["v", layer].shape[2], 2)  # [prompt key head d_head]
        weights = torch.tensor(np.stack(patterns)[:, layer]).float()
        expected = torch.einsum("bhqk,bkhd->bqhd", weights, value)
        assert (z[layer] - expected).abs().max() < 1e-5
    same = attending_as(model, copied(model))(prompts()).z
    plainly = record(model, [each.tokens for each in prompts()], ["z"])
    assert all((same[layer] - plainly["z", layer]).abs().max() < 1e-5 for layer in range(2))
    assert (z[1] - plainly["z", 1]).abs().max() > 1e-3


def test_a_copy_has_weights_of_its_own_after_a_deep_copy_of_the_opened_model(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    assert copied(copied(model)).sha256 == copied(model).sha256
    assert not {id(each) for each in copied(model).model.parameters()} & {id(each) for each in model.model.parameters()}
