"""Path patching that ends in a head's attention."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import EACH_FAMILY, roughen
from headatlas.lab import attention_scores, intervene, logit_difference, open_model, record
from headatlas.lab.activations.edits import patch
from headatlas.lab.paths import Receiver, attention_paths, path_effects, set_path_effects
from headatlas.notation import Head
from headatlas.stimuli import Prompt, Readout

Tiny = Callable[[str], Path]


def prompts(count: int = 3, length: int = 20) -> list[Prompt]:
    drawn = torch.Generator().manual_seed(1)
    clean, other = torch.randint(1, 299, (2, count, length), generator=drawn).tolist()
    return [
        Prompt(
            tuple(one), tuple(two), pairs=((12, 3), (15, 3), (15, 7)), readouts=(Readout(length - 1, 5 + number, (7,)),)
        )
        for number, (one, two) in enumerate(zip(clean, other, strict=True))
    ]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_nothing_patched_is_the_clean_attention(tiny: Tiny, family: str) -> None:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    receivers = [Head(1, 2), Head(0, 1)]
    clean = attention_scores(model, prompts()).score
    for into in ("q", "k"):
        none, same, moved = attention_paths(model, prompts(), [(), [Head(1, 1)], [Head(0, 3)]], receivers, into)
        assert np.allclose(none, np.stack([clean[:, 1, 2], clean[:, 0, 1]], 1), atol=1e-5)
        assert np.allclose(same, none, atol=1e-6), "no path leads from the same layer"
        assert np.allclose(moved[:, 1], none[:, 1], atol=1e-6) and abs(moved[:, 0] - none[:, 0]).max() > 1e-5


@pytest.mark.parametrize("into", ["q", "k"])
def test_the_path_is_that_of_path_patching(tiny: Tiny, into: str) -> None:
    """What reaches the receiver's queries, put into a clean run by hand, gives the same attention."""
    model = open_model(str(tiny("llama")))
    roughen(model.model)
    made, receiver, senders = prompts(), Head(1, 2), [Head(0, 1), Head(0, 3)]
    clean, corrupted = (
        record(model, torch.tensor([getattr(each, side) for each in made]), ["z"]) for side in ("tokens", "corrupted")
    )
    tokens = torch.tensor([each.tokens for each in made])
    everyone = [Head(layer, head) for layer in range(2) for head in range(4)]
    with intervene(model, [patch("z", everyone, clean), patch("z", senders, corrupted)]):
        reached = record(model, tokens, [into])  # type: ignore[list-item]
    with intervene(model, [patch(into, [receiver], reached)]):  # type: ignore[arg-type]
        pattern = record(model, tokens, ["pattern"])["pattern", 1][:, 2]
    expected = (pattern[:, 12, 3] + pattern[:, 15, 3] + pattern[:, 15, 7]) / 2
    found = attention_paths(model, made, [senders], [receiver], into)[0, :, 0]  # type: ignore[arg-type]
    assert np.allclose(found, expected, atol=1e-6)


def test_sets_of_one_head_have_the_effect_of_that_head(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    roughen(model.model)
    ends = [Receiver(Head(1, 2), "v"), Receiver(Head(1, 0), "v")]
    alone = path_effects(model, prompts(), logit_difference, ends)
    pair = [Head(0, 1), Head(0, 2)]
    sets = set_path_effects(model, prompts(), logit_difference, [[each] for each in pair] + [pair], ends)
    assert abs(sets[0] - alone[:, 0, 1]).max() < 1e-5 and abs(sets[1] - alone[:, 0, 2]).max() < 1e-5
    assert abs(sets[2]).max() > 1e-5 and abs(sets[2] - sets[0]).max() > 1e-5
