"""A head, layer or token that the model does not have is refused by everything that takes one; negative ones too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from headatlas import HeadatlasError
from headatlas.lab import (
    OpenModel,
    ablate_sets,
    attention_scores,
    intervene,
    log_probability,
    metric_per_prompt,
    path_patch,
    path_sweep,
    record,
    sweep,
)
from headatlas.lab.ablation import ZValues
from headatlas.lab.ablation.z_values import ablate
from headatlas.lab.activations import edits
from headatlas.lab.attribution import direct_effects_without
from headatlas.lab.graphs import prune_edges
from headatlas.lab.paths import attention_paths, path_runs
from headatlas.lab.paths.path_patching import Receiver
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

PROMPTS = [Prompt((0, 300, 301, 302), (0, 400, 401, 402), ((3, 1),), readouts=(Readout(3, 5, (6,)),))]
TOKENS, OTHERS = (torch.tensor([getattr(PROMPTS[0], side)]) for side in ("tokens", "corrupted"))


def last(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 5]


def runs(model: OpenModel) -> Any:
    return path_runs(model, TOKENS, OTHERS)


def edited(model: OpenModel, head: Head, site: Any) -> None:
    with intervene(model, [edits.zero(site, [head])]):
        metric_per_prompt(model, PROMPTS, log_probability)


TAKERS: dict[str, Callable[[OpenModel, Head], object]] = {
    "sweep": lambda model, head: sweep(model, PROMPTS, log_probability, heads=[head]),
    "ablate_sets": lambda model, head: ablate_sets(model, PROMPTS, log_probability, [[Head(0, 0)], [head]]),
    "ablate": lambda model, head: ablate(model.anatomy, [head], ZValues.zero(model.anatomy)),
    "zero z": lambda model, head: edited(model, head, "z"),
    "zero q": lambda model, head: edited(model, head, "q"),
    "zero v": lambda model, head: edited(model, head, "v"),
    "zero result": lambda model, head: edited(model, head, "result"),
    "sender": lambda model, head: path_patch(runs(model), [head], "logits", last),
    "receiver": lambda model, head: path_patch(runs(model), [Head(0, 0)], [Receiver(head, "q")], last),
    "swept receiver": lambda model, head: path_sweep(runs(model), [Receiver(head, "k")], last),
    "attention receiver": lambda model, head: attention_paths(model, PROMPTS, [[Head(0, 0)]], [head], "q"),
    "attention sender": lambda model, head: attention_paths(model, PROMPTS, [[head]], [Head(5, 0)], "q"),
    "knocked out": lambda model, head: direct_effects_without(model, PROMPTS, [[head]]),
    "pruned": lambda model, head: prune_edges(model, PROMPTS, 0.1, [head]),
    "shared key": lambda model, head: model.anatomy.require([head]),
}


@pytest.mark.parametrize("head", [Head(-2, 5), Head(0, -1), Head(-1, 0), Head(6, 0), Head(0, 8)], ids=str)
@pytest.mark.parametrize("taker", TAKERS)
def test_a_head_that_does_not_exist(taker: str, head: Head, specimen: OpenModel) -> None:
    with pytest.raises(ValueError, match=f"L{head.layer}H{head.head} is not in a model of 6 layers x 8 heads"):
        TAKERS[taker](specimen, head)


@pytest.mark.parametrize("layer", [-1, 6, 7])
def test_a_layer_that_does_not_exist(layer: int, specimen: OpenModel) -> None:
    for site in ("z", "attn_out", "pattern"):
        with pytest.raises(ValueError, match="not in a model of 6 layers"):
            record(specimen, TOKENS, [site], layers=[layer])  # type: ignore[list-item]
    for weight in (specimen.anatomy.w_o, specimen.anatomy.w_q, specimen.anatomy.ov, specimen.anatomy.qk):
        with pytest.raises(ValueError, match="model of 6 layers"):
            weight(layer)


def test_tokens_that_do_not_exist(specimen: OpenModel) -> None:
    with pytest.raises(ValueError, match="-3 is no token"):
        Prompt((0, 1, -3), (0, 1, 2))
    with pytest.raises(ValueError, match="-1 is no token"):
        Prompt((0, 1, 2), (0, 1, 2), readouts=(Readout(2, 5, (-1,)),))
    beyond = Prompt((0, 1, 2), (0, 1, 2), ((2, 1),), readouts=(Readout(2, 99_999),))
    for measure in (
        lambda: metric_per_prompt(specimen, [beyond], log_probability),
        lambda: attention_scores(specimen, [beyond]),
    ):
        with pytest.raises(HeadatlasError, match="token 99999 lies outside the vocabulary of specimen"):
            measure()
