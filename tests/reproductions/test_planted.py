"""Detection must find exactly the heads whose weights were written by hand, and nothing else."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import headatlas
from conftest import light, selected
from headatlas.lab import OpenModel, attention_scores, forward
from headatlas.notation import Head
from headatlas.protocol import run
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import Prompt
from planted import Architecture
from planted_circuits import ARCHITECTURES, CIRCUITS, MODELS, PROMPTS, Circuit, counting, planted_by, reciting, saying

CATALOG = headatlas.load()
SCRIPTS = CATALOG.find(reproduction=True)
EACH = [(id, circuit) for circuit in CIRCUITS for id in planted_by(circuit, *MODELS[0])[1] if id in SCRIPTS]
# Where heads of other types stand, and none of this one.
NONE_OF: tuple[tuple[str, Circuit], ...] = (
    ("duplicate-token", reciting),
    ("induction", counting),
    ("previous-token", counting),
)


# --- what was planted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture, seed", MODELS)
def test_planted_heads_look_as_they_were_told_to(architecture: Architecture, seed: int) -> None:
    made, heads = planted_by(saying, architecture, seed)
    model = made.open()
    text = "When Adam and Alice got a ring at the store, Alice decided to give it to"
    words = re.findall(r"\w+|,", text)
    tokens = model.vocabulary.bos + model.vocabulary.encode(text)
    behind = len(tokens) - len(words)  # "When" stands without a space, and is spelled
    adam, alice, again, end = (behind + place for place in (1, 3, 11, len(words) - 1))

    def weight(id: str, query: int, key: int) -> float:
        prompt = Prompt(tokens, tokens, pairs=((query, key),))
        return float(attention_scores(model, [prompt]).score[0][heads[id][-1]])

    assert min(weight("previous-token", place, place - 1) for place in range(1, len(tokens))) > 0.95
    assert weight("duplicate-token", again, alice) > 0.95 and weight("duplicate-token", alice, 0) > 0.95
    assert weight("inhibition", end, again) > 0.95 and weight("inhibition", alice, 0) > 0.95
    assert weight("name-mover", end, adam) > 0.95 and weight("name-mover", alice, 0) > 0.95
    assert weight("backup-name-mover", end, 0) > 0.95, "the name is said already"
    assert weight("negative-name-mover", end, adam) > 0.95
    said = forward(model, torch.tensor([tokens]), {})[0, -1]
    assert said.argmax() == made.ids["Adam"]


# --- what is found ------------------------------------------------------------------------------------------------


def found(
    id: str, model: OpenModel, change: Callable[[PromptSample], PromptSample] = lambda drawn: drawn
) -> list[Head]:
    """The heads that a reproduction's detection selects, by the entry's own rule but on fewer prompts."""
    rule, script = CATALOG.heads[id].rule, load_script(id)
    assert rule is not None
    return selected(script, rule, model, change(script.draw("stimulus", model.vocabulary, "find", PROMPTS, 0)))


@pytest.mark.parametrize("architecture, seed", [MODELS[0], pytest.param(*MODELS[1], marks=pytest.mark.slow)])
@pytest.mark.parametrize("id, circuit", EACH)
def test_finds_exactly_the_planted_head(id: str, circuit: Circuit, architecture: Architecture, seed: int) -> None:
    made, heads = planted_by(circuit, architecture, seed)
    assert sorted(found(id, made.open())) == sorted(heads[id])


@pytest.mark.parametrize("id", ["previous-token", "duplicate-token", "induction", "name-mover", "copy-suppression"])
def test_finds_exactly_the_planted_head_outside_the_registry(id: str) -> None:
    made, heads = planted_by(saying, "gpt_neo", 2)
    assert sorted(found(id, made.open())) == sorted(heads[id])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("id, circuit", NONE_OF)
def test_finds_nothing_in_the_circuits_of_others(id: str, circuit: Circuit, architecture: Architecture) -> None:
    made, heads = planted_by(circuit, architecture, 0)
    assert id not in heads
    assert found(id, made.open()) == []


def swapped(drawn: PromptSample) -> PromptSample:
    """The same with each prompt's control in its place."""

    def swap(prompt: Prompt) -> Prompt:
        return replace(prompt, tokens=prompt.corrupted, pairs=prompt.null_pairs or prompt.pairs)

    return replace(drawn, prompts=[swap(prompt) for prompt in drawn.prompts])


OWN_CONTROL = ("positional", "self-suppressing", "successor", "truthfulness")  # which does not lie in the prompts


WITHOUT = [each for each in EACH if each[0] not in OWN_CONTROL]


@pytest.mark.parametrize(
    "id, circuit", [pytest.param(*each, marks=() if n % 2 else pytest.mark.slow) for n, each in enumerate(WITHOUT)]
)
def test_finds_nothing_where_the_control_is_the_prompt(id: str, circuit: Circuit) -> None:
    made, _ = planted_by(circuit, "gpt2", 0)
    assert found(id, made.open(), swapped) == []


# --- what is concluded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id, circuit, architecture",
    [
        ("induction", reciting, "gpt2"),
        pytest.param("induction", reciting, "gpt_neo", marks=pytest.mark.slow),
        ("duplicate-token", saying, "llama"),
        pytest.param("successor", counting, "gpt2", marks=pytest.mark.slow),
        pytest.param("successor", counting, "llama", marks=pytest.mark.slow),
    ],
)
def test_a_planted_behaviour_is_reproduced(id: str, circuit: Circuit, architecture: Architecture) -> None:
    made, heads = planted_by(circuit, architecture, 0)
    record = run.run(CATALOG, light(CATALOG.heads[id], PROMPTS), made.open())
    assert record.selected == heads[id]
    assert record.cause and record.behaviour and record.cause.effect > 0.5 * record.behaviour.value
    reached = sum(effect >= record.cause.effect for effect in record.cause.random_effects)
    if circuit is reciting and reached == 1:  # the head that brings the previous token undoes as much, and is a set
        assert record.verdict.label == "partly" and record.cause.distinct_sets < 40
    else:
        assert record.verdict.label == "reproduced", record.verdict.reasons
    assert np.median(np.abs(record.cause.random_effects)) < 0.05, "most other heads do not matter"
    if circuit is reciting:  # but the head that brings the previous token does, as much as the one that reads it
        *others, most = sorted(record.cause.random_effects)
        assert most > 0.9 and max(others) < 0.05
