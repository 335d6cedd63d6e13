"""Slash-dominant heads: a line that was planted, and lines that one can draw."""

import random

import numpy as np
import pytest

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import open_model
from headatlas.notation import Head
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt, lookup, texts
from planted import START, Architecture, Back, Decay, Marked, Planter
from planted_circuits import NAMES, STORY, spots

SCRIPT = load_script("slash-dominant")
PROMPTS, LENGTH = 4, 96


def placed(architecture: Architecture) -> tuple[Planter, list[Head], Head]:
    """A model with a head that looks one token back, one that looks three back, and one at all that is near."""
    previous, third, near = spots(0, 3)
    made = Planter(architecture, [*STORY, *NAMES, *lookup.RARE], marks={"start": [START]}, seed=0)
    made.plant(previous, [Back(1, 300), Marked("start", 275)])
    made.plant(third, [Back(3, 300), Marked("start", 275)])
    made.plant(near, [Decay(0.35), Marked("start", -60)])
    return made, sorted([previous, third]), near


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_finds_the_heads_with_a_line_and_not_the_one_that_spreads(architecture: Architecture) -> None:
    made, lines, near = placed(architecture)
    model, rule = made.open(), headatlas.load().heads["slash-dominant"].rule
    assert rule
    drawn = SCRIPT.draw("stimulus", model.vocabulary, "find", PROMPTS, 0)
    assert sorted(selected(SCRIPT, rule, model, drawn)) == lines
    assert SCRIPT.detect
    scores = SCRIPT.detect(model, drawn)
    assert all(scores.score[:, *head].mean() > 0.9 and scores.null[:, *head].mean() < 0.02 for head in lines)
    assert 0.1 < scores.score[:, *near].mean() < 0.3  # it has a best distance, one back, but no line


def test_a_drawn_line_scores_its_weight_without_the_first_token() -> None:
    pattern = np.zeros((1, 2, LENGTH, LENGTH))
    pattern[:, :, :, 0] = 1.0  # rests on the first token
    for query in range(6, LENGTH):
        pattern[0, 0, query, query - 5], pattern[0, 0, query, 0] = 0.75, 0.25
    found = SCRIPT.module.lines(Prompt((1,) * LENGTH, (2,) * LENGTH), pattern)
    assert found.shape == (1, 2, 24)
    assert found[0, 0].argmax() == 4 and found[0, 0, 4] == pytest.approx(0.75)
    assert found[0, 1].max() == 0.0, "a head that rests on the first token has no line"


def test_uniform_attention_has_no_line() -> None:
    pattern = np.tril(np.ones((LENGTH, LENGTH))) / np.arange(1, LENGTH + 1)[:, None]
    found = SCRIPT.module.lines(Prompt((1,) * LENGTH, (2,) * LENGTH), pattern[None, None])
    assert found.max() < 0.05


@pytest.mark.parametrize("kind", texts.KINDS)
def test_texts_are_cut_to_the_token_and_differ(kind: str) -> None:
    words = open_model(specimens.folder()).vocabulary
    drawn = [texts.cut(words, kind, 50, random.Random(seed)) for seed in range(20)]
    assert {len(each) for each in drawn} == {50} and len(set(drawn)) == 20
    assert not set(words.bos) & {token for each in drawn for token in each}


def test_a_shuffled_text_differs_in_order_alone() -> None:
    words = open_model(specimens.folder()).vocabulary
    for seed in range(20):
        prompt = texts.ordered(words, "stories", 40, random.Random(seed))
        assert len(prompt.tokens) == 40 + len(words.bos)
        assert sorted(prompt.tokens) == sorted(prompt.corrupted) and prompt.tokens != prompt.corrupted
        assert prompt.tokens[-1] == prompt.corrupted[-1]
        assert prompt.readouts[0].position == len(prompt.tokens) - 1
