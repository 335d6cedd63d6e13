"""Scores of SmolLM2's heads, measured apart from the lab: plain transformers in eager mode, formulas written anew."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

import headatlas
from headatlas.fetching import stored
from headatlas.lab import OpenModel
from headatlas.protocol.assess import heads_that_hold, selection_of
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_scores
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt

CATALOG = headatlas.load()
ID = "smollm2-135m-instruct"
Weights = NDArray[np.float64]  # [layer head query key]


def previous(weights: Weights, tokens: tuple[int, ...]) -> Weights:
    """From the third token on, to the one before."""
    return np.stack([weights[..., at, at - 1] for at in range(2, len(tokens))]).mean(0)


def duplicate(weights: Weights, tokens: tuple[int, ...]) -> Weights:
    """From each token that was there before, to where it was."""
    seen = [(at, tokens.index(token)) for at, token in enumerate(tokens) if token in tokens[:at]]
    return np.stack([weights[..., at, earlier] for at, earlier in seen]).mean(0)


def induction(weights: Weights, tokens: tuple[int, ...]) -> Weights:
    """From each token that was there before, to all that followed it then, summed; the last token does not count."""
    rows = []
    for at, token in enumerate(tokens[:-1]):
        after = [earlier + 1 for earlier in range(at) if tokens[earlier] == token]
        if after:
            rows.append(weights[..., at, after].sum(-1))
    return np.stack(rows).mean(0)


def sink(weights: Weights, tokens: tuple[int, ...]) -> Weights:
    """From the third token on, to the first."""
    return weights[..., 2:, 0].mean(-1)


SCORES: dict[str, Callable[[Weights, tuple[int, ...]], Weights]] = {
    "previous-token": previous,
    "duplicate-token": duplicate,
    "induction": induction,
    "attention-sink": sink,
}


@pytest.fixture(scope="module")
def plain(smollm2: OpenModel) -> transformers.PreTrainedModel:
    known = CATALOG.models[ID]
    folder = stored.place(known)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def looks(model: transformers.PreTrainedModel, tokens: tuple[int, ...]) -> Weights:
    with torch.no_grad():
        found = model(torch.tensor([tokens]), output_attentions=True, use_cache=False).attentions
    return torch.cat(found).double().numpy()


@pytest.mark.parametrize("id", SCORES)
def test_scores_and_heads_are_those_of_plain_transformers(
    id: str, smollm2: OpenModel, plain: transformers.PreTrainedModel
) -> None:
    """To 1e-3, head by head, on random tokens; and the heads found are those at which the formula crosses the bar."""
    rule = CATALOG.heads[id].rule
    assert rule
    script = load_script(id, rule=rule)
    drawn = draw(script, rule, smollm2, seed=0, prompts=4)
    samples = {split: drawn.of(split) for split in ("find", "test")}
    if id == "attention-sink":  # its other families are stories
        samples = {split: each.only(each.of_family("random tokens")) for split, each in samples.items()}
    ours = {split: measure_scores(script, smollm2, each) for split, each in samples.items()}
    theirs = {split: mean_of(id, plain, each.prompts) for split, each in samples.items()}
    for split, each in ours.items():
        assert abs(each.score.mean(0) - theirs[split]).max() < 1e-3
    found, _ = heads_that_hold(rule, selection_of(ours["find"]), ours["test"])
    bar = rule.detection.threshold
    over = np.argwhere((theirs["find"] >= bar) & (theirs["test"] >= bar))
    assert {(head.layer, head.head) for head in found} == {tuple(each) for each in over.tolist()}
    assert found


def mean_of(id: str, plain: transformers.PreTrainedModel, prompts: list[Prompt]) -> Weights:
    return np.stack([SCORES[id](looks(plain, prompt.tokens), prompt.tokens) for prompt in prompts]).mean(0)
