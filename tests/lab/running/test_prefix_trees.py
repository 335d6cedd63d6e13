"""Prompts run as a tree give the states of each prompt run by itself, and each common beginning is computed once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import EACH_FAMILY, roughen
from headatlas.lab import forward, open_model
from headatlas.lab.activations.edits import zero
from headatlas.lab.activations.interventions import intervene
from headatlas.lab.running.prefix_trees import laid_out, own_masks, prefix_tree
from headatlas.notation import Head
from operations import tokens_run

Tiny = Callable[[str], Path]
START = tuple(range(40, 64))  # longer than the sliding windows of the tiny models
PROMPTS = [(*START, 7, 8, 9), (*START, 7, 9), START[:3], (*START[:10], 5, 5, 5, 5), (*START, 7, 8, 9), (90, *START)]


def test_a_tree_has_each_beginning_of_a_group_once() -> None:
    tree = prefix_tree([(1, 2, 3), (1, 2, 4), (1, 2, 3), (1, 2)], [0, 0, 0, 1])
    assert tree.tokens.tolist() == [1, 2, 3, 4, 1, 2] and tree.positions.tolist() == [0, 1, 2, 2, 0, 1]
    assert tree.ways == ((0, 1, 2), (0, 1, 3), (0, 1, 2), (4, 5)) and tree.group.tolist() == [0, 0, 0, 0, 1, 1]
    assert [row.nonzero()[:, 0].tolist() for row in tree.seen] == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [4], [4, 5]]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_every_node_has_the_logits_of_its_prompts(family: str, tiny: Tiny) -> None:
    model = open_model(str(tiny(family)))
    roughen(model.model)
    masks, tree = own_masks(model, PROMPTS[0]), prefix_tree(PROMPTS, [0, 0, 0, 0, 1, 1])
    if family in ("gpt2", "llama", "gemma2"):
        assert masks is not None, "it can be run so"
    if masks is None:
        pytest.skip(f"prompts of {family} are not run as a tree")
    assert masks is not None
    with laid_out(model, tree, masks):
        found = forward(model, tree.tokens[None])[0]
    for prompt, way in zip(PROMPTS, tree.ways, strict=True):
        torch.testing.assert_close(found[list(way)], forward(model, torch.tensor([prompt]))[0], atol=1e-4, rtol=1e-4)


def test_a_common_beginning_is_computed_once(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    masks, tree = own_masks(model, PROMPTS[0]), prefix_tree(PROMPTS)
    assert masks is not None and own_masks(model, PROMPTS[0]) is not None
    with tokens_run(model) as read, laid_out(model, tree, masks):
        forward(model, tree.tokens[None])
    assert read == [24 + 3 + 1 + 4 + 25] * 2


def test_no_tree_where_it_cannot_be_trusted(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(str(tiny("llama")))
    with intervene(model, [zero("z", [Head(0, 0)])]):
        assert own_masks(model, PROMPTS[0]) is None, "edits are in force"
        forward(model, torch.tensor([PROMPTS[0]]))
    assert own_masks(model, (1,)) is None
    rotary = model.model.model.rotary_emb
    monkeypatch.setattr(
        rotary, "forward", lambda x, position_ids, own=rotary.forward: own(x, torch.arange(x.shape[1])[None])
    )
    assert own_masks(model, PROMPTS[0]) is None, "this model does not heed the positions it is told"
