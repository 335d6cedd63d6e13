"""Attention between pairs of positions, against the patterns of plain transformers."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY
from headatlas import HeadatlasError
from headatlas.lab import (
    attention_scores,
    open_model,
)
from headatlas.stimuli import Prompt
from tiny_prompts import TOKENS, plain, prompt

Tiny = Callable[[str], Path]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_weights_at_pairs_equal_the_full_pattern(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    with torch.no_grad():
        output = plain(tiny(family), attn_implementation="eager")(TOKENS, output_attentions=True)
    patterns = torch.stack(output.attentions, 1)  # [batch layer head query key]
    pairs = tuple((query, key) for query in (0, 5, 20, 23) for key in (0, query // 2, query) if key <= query)
    pairs = tuple(dict.fromkeys(pairs))
    scores = attention_scores(model, [prompt(row, pairs=pairs) for row in TOKENS])
    expected = sum(patterns[..., query, key] for query, key in pairs) / len({query for query, _ in pairs})
    assert np.abs(scores.score - expected.numpy()).max() < 1e-6


def test_grouped_heads_share_keys_but_not_scores(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    assert (model.anatomy.heads, model.anatomy.kv_heads) == (4, 2)
    scores = attention_scores(model, [prompt(TOKENS[0], pairs=((20, 3),))]).score[0]
    assert len({round(value, 9) for value in scores.ravel()}) == 8


def test_sliding_windows_are_honoured(tiny: Tiny) -> None:
    model = open_model(str(tiny("mistral")))
    near, far = (attention_scores(model, [prompt(TOKENS[0], pairs=((23, key),))]).score for key in (22, 2))
    assert (near > 0).all() and (far == 0).all()


def test_sinks_take_weight_and_do_not_give_it_back(tiny: Tiny) -> None:
    model = open_model(str(tiny("gpt_oss")))
    row = tuple((23, key) for key in range(24))
    assert (attention_scores(model, [prompt(TOKENS[0], pairs=row)]).score < 0.99).all()


def test_scores_do_not_depend_on_how_prompts_are_batched(tiny: Tiny) -> None:
    model = open_model(str(tiny("qwen2")))
    rng = random.Random(0)
    rows = [torch.randint(1, 299, (rng.choice([9, 17, 24]),)) for _ in range(40)]
    prompts = [prompt(row, pairs=((8, 3), (6, 1))) for row in rows]
    together = attention_scores(model, prompts).score
    alone = np.concatenate([attention_scores(model, [each]).score for each in prompts])
    assert np.abs(together - alone).max() < 1e-6


def test_a_prompt_longer_than_the_context_is_refused(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    long = Prompt((1,) * 200, (1,) * 200, pairs=((5, 4),))
    with pytest.raises(HeadatlasError, match="does not fit the context"):
        attention_scores(model, [long])
