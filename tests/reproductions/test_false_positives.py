"""On models that have learned nothing, no script may claim a finding: not by its verdict, not by its selection."""

import random

import headatlas
from conftest import light, selected
from headatlas import locations
from headatlas.lab import OpenModel, metric_per_prompt
from headatlas.protocol import run
from headatlas.protocol.assess import behaviour_of
from headatlas.protocol.script import PromptSample, Script, load_script

CATALOG = headatlas.load()
SCRIPTS = CATALOG.find(reproduction=True)
MODELS = 20
LOOKED_AT = 5  # models on which each script's detection runs
PROMPTS = 8  # per family
ALLOWED = 0.05


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
            run.require_room(model, prompts)


def test_untrained_models_rarely_pass(untrained: list[OpenModel]) -> None:
    """Every script on every model: where the behaviour is there by chance, the whole run decides."""
    claims, runs = [], 0
    for id in SCRIPTS:
        script, entry = load_script(id), light(CATALOG.heads[id], PROMPTS)
        task, _ = drawn(script, untrained[0], seed=0)
        for model in untrained:
            runs += 1
            values = metric_per_prompt(model, task.prompts, script.behaviour, script.contrast)
            if not behaviour_of(entry.rule, values).passed:  # type: ignore[arg-type]
                continue
            label = run.run(CATALOG, entry, model).verdict.label
            if label in ("reproduced", "partly"):
                claims.append(f"{id} on {model.name}: {label}")
    assert runs == MODELS * len(SCRIPTS)
    assert len(claims) <= ALLOWED * runs, rate(claims, runs)


def test_detection_rarely_selects_in_untrained_models(untrained: list[OpenModel]) -> None:
    claims, runs = [], 0
    for number, id in enumerate(SCRIPTS):
        script, rule = load_script(id), CATALOG.heads[id].rule
        assert rule is not None
        _, stimuli = drawn(script, untrained[0], seed=1)
        for model in random.Random(number).sample(untrained, LOOKED_AT):
            runs += 1
            if heads := selected(script, rule, model, stimuli):
                claims.append(f"{id} on {model.name}: {', '.join(map(str, heads))}")
    assert runs == LOOKED_AT * len(SCRIPTS)
    assert len(claims) <= ALLOWED * runs, rate(claims, runs)
