"""On models that have learned nothing, no script may claim a finding: not by its verdict, not by its selection."""

import random

import pytest

import headatlas
from conftest import light, selected
from headatlas import locations
from headatlas.lab import OpenModel, metric_per_prompt
from headatlas.protocol import run
from headatlas.protocol.assess import behaviour_of
from headatlas.protocol.script import PromptSample, Script, load_script

CATALOG = headatlas.load()
SCRIPTS = CATALOG.find(reproduction=True)
LOOKED_AT = 2  # models on which each script's detection runs
PROMPTS = 8  # per family
ALLOWED = 0.05
# How many models there are is what the tests can tell. If a tenth of all runs claimed something, 318 runs (6 models)
# would show at most 5% once in 2,000 times, and 106 detections (2 models) once in 25; those of 1,060 and 265 (20 and 5
# models, among the slow tests) practically never, and once in 500 times.


def drawn(script: Script, model: OpenModel, seed: int) -> tuple[PromptSample, PromptSample]:
    """Task and stimuli, which are the same for all models of one tokenizer."""
    task = script.draw("task", model.vocabulary, "test", PROMPTS, seed)
    return task, script.draw("stimulus", model.vocabulary, "find", PROMPTS, seed)


def rate(claims: list[str], runs: int) -> str:
    """The false positives in words, for when there are too many."""
    return f"{len(claims)} false positives in {runs} runs, {len(claims) / runs:.1%}: {'; '.join(claims)}"


def test_every_script_is_put_to_the_test(untrained: list[OpenModel]) -> None:
    """Its stimuli can be made and fit each model, so that no run counted below is empty."""
    assert set(SCRIPTS) == {path.stem for path in locations.reproductions().glob("*.py")}
    for id in SCRIPTS:
        prompts = drawn(load_script(id), untrained[0], seed=0)
        for model in untrained:
            longest = max(len(prompt.tokens) for sample in prompts for prompt in sample.prompts)
            assert model.context is None or longest <= model.context


def test_untrained_models_rarely_pass(untrained: list[OpenModel]) -> None:
    """Every script on every model: where the behaviour is there by chance, the whole run decides."""
    check_verdicts(untrained)


@pytest.mark.slow
def test_many_untrained_models_rarely_pass(twenty_untrained: list[OpenModel]) -> None:
    check_verdicts(twenty_untrained)


def check_verdicts(models: list[OpenModel]) -> None:
    """At most one run in twenty claims a finding."""
    claims, runs = [], 0
    for id in SCRIPTS:
        script, entry = load_script(id), light(CATALOG.heads[id], PROMPTS)
        task, _ = drawn(script, models[0], seed=0)
        for model in models:
            runs += 1
            values = metric_per_prompt(model, task.prompts, script.behaviour, script.contrast)
            if not behaviour_of(entry.rule, values).passed:  # type: ignore[arg-type]
                continue
            label = run.run(CATALOG, entry, model).verdict.label
            if label in ("reproduced", "partly"):
                claims.append(f"{id} on {model.name}: {label}")
    assert runs == len(models) * len(SCRIPTS)
    assert len(claims) <= ALLOWED * runs, rate(claims, runs)


@pytest.mark.slow
def test_detection_rarely_selects_in_untrained_models(untrained: list[OpenModel]) -> None:
    check_selections(untrained, LOOKED_AT)


@pytest.mark.slow
def test_detection_rarely_selects_in_many_untrained_models(twenty_untrained: list[OpenModel]) -> None:
    check_selections(twenty_untrained, 5)


def check_selections(models: list[OpenModel], looked_at: int) -> None:
    """At most one detection in twenty selects a head; each script looks at models of its own."""
    claims, runs = [], 0
    for number, id in enumerate(SCRIPTS):
        script, rule = load_script(id), CATALOG.heads[id].rule
        assert rule is not None
        _, stimuli = drawn(script, models[0], seed=1)
        for model in random.Random(number).sample(models, looked_at):
            runs += 1
            if heads := selected(script, rule, model, stimuli):
                claims.append(f"{id} on {model.name}: {', '.join(map(str, heads))}")
    assert runs == looked_at * len(SCRIPTS)
    assert len(claims) <= ALLOWED * runs, rate(claims, runs)
