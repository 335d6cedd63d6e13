"""A forward pass gives logits, or says that they are no numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headatlas import HeadatlasError
from headatlas.lab import (
    forward,
    open_model,
)
from tiny_prompts import TOKENS

Tiny = Callable[[str], Path]


def test_nan_is_not_a_result(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    broken = {model.anatomy.attention[0]: lambda call, z: z * float("nan")}
    with pytest.raises(HeadatlasError, match="NaN"):
        forward(model, TOKENS, broken)
