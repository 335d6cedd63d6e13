"""Looking at attention changes nothing, stays with its model, and ends with the measurement."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import EACH_FAMILY, save_tiny
from headatlas.lab import (
    forward,
    open_model,
)
from headatlas.lab.hooks.attention_interface import attention_hooks
from tiny_prompts import TOKENS, plain

Tiny = Callable[[str], Path]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_looking_changes_no_bit_of_the_logits(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    looked = forward(model, TOKENS, {module: lambda call, z: None for module in model.anatomy.attention.values()})
    with torch.no_grad():
        assert torch.equal(looked, plain(tiny(family))(TOKENS).logits)


def test_an_exception_inside_a_measurement_leaves_the_model_as_it_was(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    before = forward(model, TOKENS, {})

    def explode(call: object, z: torch.Tensor) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        forward(model, TOKENS, {model.anatomy.attention[0]: explode})
    assert torch.equal(forward(model, TOKENS, {}), before)


def test_two_models_measured_at_once_do_not_mix(tiny: Tiny, tmp_path: Path) -> None:
    one, two = open_model(str(tiny("llama"))), open_model(str(save_tiny("llama", tmp_path, seed=1)))
    seen: list[str] = []
    watch = {one.anatomy.attention[0]: lambda call, z: seen.append("one")}
    with attention_hooks(watch):  # type: ignore[arg-type]
        forward(two, TOKENS, {})
    assert seen == []
    assert not torch.equal(forward(one, TOKENS, {}), forward(two, TOKENS, {}))
