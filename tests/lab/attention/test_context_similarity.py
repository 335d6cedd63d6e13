"""External context scores, against attention weights and last hidden states of plain transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headatlas import HeadatlasError
from headatlas.lab import open_model
from headatlas.lab.attention.context_similarity import ContextQuestion, external_context_scores
from tiny_prompts import TOKENS, plain

Tiny = Callable[[str], Path]
RESPONSE, CONTEXT = (18, 20, 21), tuple(range(2, 16))


def questions(count: int = len(TOKENS)) -> list[ContextQuestion]:
    return [ContextQuestion(tuple(row.tolist()), RESPONSE, CONTEXT) for row in TOKENS[:count]]


def by_hand(output: object, attended: int) -> np.ndarray:
    """[prompt layer head], one cosine at a time."""
    states: torch.Tensor = output.hidden_states[-1].double()  # type: ignore[attr-defined]
    patterns = torch.stack(output.attentions, 1)  # type: ignore[attr-defined]  # [prompt layer head query key]
    found = torch.zeros(patterns.shape[:3], dtype=torch.float64)
    for prompt, layer, head in np.ndindex(*found.shape):
        for query in RESPONSE:
            weights = {key: float(patterns[prompt, layer, head, query, key]) for key in CONTEXT}
            most = sorted(weights, key=lambda key: -weights[key])[:attended]
            read, said = states[prompt, most].mean(0), states[prompt, query]
            found[prompt, layer, head] += read @ said / read.norm() / said.norm() / len(RESPONSE)
    return found.numpy()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_scores_equal_those_worked_out_from_plain_outputs(family: str, tiny: Tiny) -> None:
    with torch.no_grad():
        model = plain(tiny(family), attn_implementation="eager")
        output = model(TOKENS, output_attentions=True, output_hidden_states=True)
    opened = open_model(str(tiny(family)))
    for share, attended in ((0.1, 1), (0.25, 3), (0.01, 1)):
        found = external_context_scores(opened, questions(), share)
        assert np.abs(found - by_hand(output, attended)).max() < 1e-5


def test_questions_of_several_shapes_are_answered_in_their_order(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    mixed = [each for one in questions(2) for each in (one, replace(one, response=(17,)), replace(one, context=(3, 4)))]
    together = external_context_scores(model, mixed)
    alone = np.concatenate([external_context_scores(model, [each]) for each in mixed])
    assert np.abs(together - alone).max() < 1e-6


def test_a_question_without_context_is_refused(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    with pytest.raises(HeadatlasError, match="no response or no context"):
        external_context_scores(model, [replace(questions(1)[0], context=())])
