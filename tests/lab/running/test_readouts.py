"""Logits are computed where a metric reads them, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, louden
from headatlas import HeadatlasError
from headatlas.lab import OpenModel, accuracy, forward, log_probability, logit_difference, metric_per_prompt, open_model
from headatlas.lab.hooks import module_hooks
from headatlas.lab.running import Metric, accuracy_among_rivals, few_logits, probability_difference
from headatlas.lab.running.readouts import readouts_among, tokens_read
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]
ROWS = torch.randint(1, 299, (4, 2, 15), generator=torch.Generator().manual_seed(1)).tolist()
FEW: tuple[Metric, ...] = (logit_difference, accuracy_among_rivals)
PROMPTS = [
    Prompt(
        tuple(one[:length]),
        tuple(other[:length]),
        readouts=(Readout(length - 1, 4000 - number, (7, 300 + number)[: 1 + number % 2]), Readout(3, 5, (8,))),
    )
    for number, ((one, other), length) in enumerate(zip(ROWS, (15, 11, 15, 15), strict=True))
]


def by_hand(model: OpenModel, metric: Metric, prompt: Prompt, tokens: tuple[int, ...]) -> float:
    """A metric from all logits of one prompt."""
    logits = forward(model, torch.tensor([tokens]))[:, [each.position for each in prompt.readouts]]
    answers = torch.tensor([[each.answer for each in prompt.readouts]])
    most = max(len(each.rivals) for each in prompt.readouts)
    rivals = torch.tensor([[[*each.rivals, *[-1] * (most - len(each.rivals))] for each in prompt.readouts]])
    return float(metric(logits, answers, rivals))


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_a_metric_of_few_logits_is_that_of_all(tiny: Tiny, family: str) -> None:
    model = open_model(str(tiny(family)))
    louden(model.model)
    for metric in (*FEW, accuracy, log_probability):
        found, contrast = (metric_per_prompt(model, PROMPTS, metric, minus) for minus in (False, True))
        expected = [by_hand(model, metric, prompt, prompt.tokens) for prompt in PROMPTS]
        corrupted = [by_hand(model, metric, prompt, prompt.corrupted) for prompt in PROMPTS]
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(contrast - (np.array(expected) - corrupted)).max() < 1e-5


def test_the_tokens_that_a_metric_reads(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    read = tokens_read(model, logit_difference, PROMPTS)
    assert read is not None and read.tolist() == [5, 7, 8, 301, 303, 3997, 3998, 3999, 4000]
    _, _, answers, rivals = readouts_among(read, PROMPTS[1:2])
    assert answers.tolist() == [[7, 0]] and rivals.tolist() == [[[1, 3], [2, -1]]]
    for metric in (accuracy, log_probability, probability_difference, lambda *given: logit_difference(*given)):
        assert tokens_read(model, metric, PROMPTS) is None, "a metric that may read others"
    many = [Prompt((1, 2), (1, 2), readouts=(Readout(1, 5, tuple(range(10, 1100))),))]
    assert tokens_read(model, logit_difference, many) is None, "more than a quarter of the vocabulary"


@pytest.mark.parametrize("metric", FEW)
def test_other_logits_are_not_computed(tiny: Tiny, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    model, widths = open_model(str(tiny("gpt2"))), list[int]()
    plain = few_logits.linear

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        widths.append(len(weight))
        return plain(x, weight, bias)

    monkeypatch.setattr(few_logits, "linear", counted)
    metric_per_prompt(model, PROMPTS, metric)
    assert widths == [5, 7], "the answers and rivals of each length"
    assert "forward" not in vars(model.anatomy.unembed.unembedding) and not module_hooks.hooked(model.model)  # type: ignore[union-attr]


def test_an_answer_that_is_no_token_is_refused(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    odd = [Prompt((1, 2), (1, 2), readouts=(Readout(1, 4096, (7,)),))]
    with pytest.raises(HeadatlasError, match="token 4096 lies outside the vocabulary"):
        metric_per_prompt(model, odd, logit_difference)
