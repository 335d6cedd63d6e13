"""Every script works on as few prompts of each family as are ever drawn, or says in one line that they are too few."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import headatlas
from conftest import louden
from headatlas import specimens
from headatlas.lab import OpenModel, Scores, attention_scores, open_model
from headatlas.notation import Head
from headatlas.protocol import assess
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import measure_behaviour
from headatlas.protocol.script import PromptSample, Script, load_script
from headatlas.stimuli import ProbeLabel, Prompt, Readout, UntestableError

CATALOG = headatlas.load()
RULES = {id: entry.rule for id, entry in CATALOG.heads.items() if entry.rule}
SCRIPTS = [id for id, rule in RULES.items() if not rule.detection.fitted]  # those draw what their rule says
HEADS = 4


@pytest.fixture(scope="module")
def tiny() -> OpenModel:
    return untrained(transformers.AutoTokenizer.from_pretrained(specimens.folder()))


def untrained(tokenizer: transformers.PreTrainedTokenizerBase) -> OpenModel:
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": HEADS}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval()
    louden(model, 5.0)
    return open_model(model, tokenizer=tokenizer, called="untrained")


def said(id: str, model: OpenModel, count: int, seed: int) -> str | None:
    """All that a run does, on so many prompts of each family: what was said against it; None where it worked."""
    script, rule = load_script(id), RULES[id]
    try:
        stimuli = draw(script, rule, model, seed, count)
        assess.behaviour_of(rule, measure_behaviour(script, model, stimuli.task))
        found = {split: scored(script, model, stimuli.of(split)) for split in ("find", "test")}  # type: ignore[arg-type]
        for each in found.values():
            assert np.isfinite(each.score).all() and np.isfinite(each.null).all()
        assess.detection_of(rule, found)  # type: ignore[arg-type]
        heads = [Head(0, 1), Head(1, 2)]
        moved = measure_effects(script, rule, model, stimuli.find, stimuli.task, heads, seed, random_sets=2, alone=1)
        assert moved and np.isfinite(moved.selected).all() and np.isfinite(moved.random).all()
    except UntestableError as error:
        return str(error)
    return None


def scored(script: Script, model: OpenModel, drawn: PromptSample) -> Scores:
    return script.detect(model, drawn) if script.detect else attention_scores(model, drawn.prompts)


@pytest.mark.parametrize("counts", [(1,), pytest.param((2, 3, 4), marks=pytest.mark.slow)])
def test_no_script_fails_on_few_prompts(tiny: OpenModel, counts: Sequence[int]) -> None:
    """What else goes wrong than too few prompts or words raises here, as it would fail in a census."""
    against = {}
    for number, id in enumerate(SCRIPTS):
        if why := said(id, tiny, counts[number % len(counts)], seed=0):
            against[id] = why
    few = {id for id, why in against.items() if why.startswith("too few prompts")}
    assert few == ({"accuracy", "function-vector"} if counts == (1,) else set()), against
    assert against.keys() - few <= {"vulnerable"}, against  # which looks for prompts on which the model fails


def answering(answers: Sequence[int], families: Sequence[str]) -> PromptSample:
    prompts = [Prompt((1, 2, answer), (2, 1, answer), readouts=(Readout(2, answer),)) for answer in answers]
    return PromptSample(prompts, list(families), "find")


TASKS = ("antonym", "plural", "past")


@pytest.mark.parametrize("seed", range(50))
def test_the_halves_of_a_task_are_both_there_and_no_answer_is_in_both(seed: int) -> None:
    rng = random.Random(seed)
    families = [task for task in TASKS for _ in range(rng.randint(2, 5))]
    answers = [100 * TASKS.index(task) + rng.randrange(3) for task in families]
    half = load_script("function-vector").module.halves(families, answers)
    for task in TASKS:
        mine = {answer for answer, family in zip(answers, families, strict=True) if family == task}
        assert {half[answer] for answer in mine} == ({0, 1} if len(mine) > 1 else {half[min(mine)]})


def test_a_task_with_one_answer_is_said_to_have_too_few_prompts(tiny: OpenModel) -> None:
    drawn = answering([5, 6, 7, 7, 8, 9], [task for task in TASKS for _ in range(2)])
    detect = load_script("function-vector").detect
    assert detect
    with pytest.raises(UntestableError, match="too few prompts: those of plural do not differ"):
        detect(tiny, drawn)
    found = detect(tiny, answering([5, 6, 7, 4, 8, 9], [task for task in TASKS for _ in range(2)]))
    assert np.isfinite(found.score).all() and np.isfinite(found.null).all()


def test_texts_that_are_all_in_one_language_are_said_to_be_too_few(tiny: OpenModel) -> None:
    script = load_script("coherence")
    drawn = script.draw("stimulus", tiny.vocabulary, "find", 2, 0)
    alike = PromptSample([replace(each, probe=ProbeLabel(1)) for each in drawn.prompts], drawn.families, "find")
    assert script.detect
    with pytest.raises(UntestableError, match="too few prompts: all are in one language"):
        script.detect(tiny, alike)


@pytest.mark.parametrize("count, parts", [(2, 3), (3, 4), (4, 6), (6, 8)])
def test_scaling_is_learned_on_parts_of_two_pairs_at_least(tiny: OpenModel, count: int, parts: int) -> None:
    """So that no part teaches nothing, and in each of them half of what is right can be exchanged."""
    script = load_script("accuracy")
    drawn = script.draw("stimulus", tiny.vocabulary, "find", count, 0)
    assert script.detect
    found = script.detect(tiny, drawn)
    assert len(found.score) == parts and found.score.any((1, 2)).all()
    assert all((found.score[part] != found.null[part]).any() for part in range(parts))
