"""On models that have learned nothing, no script may claim a finding: not by its verdict, not by its selection."""

import random

import pytest
import torch
import transformers

import headatlas
from conftest import FAMILIES, light, louden, selected
from headatlas import locations, specimens
from headatlas.lab import OpenModel, metric_per_prompt, open_model
from headatlas.protocol import run
from headatlas.protocol.assess import behaviour_of
from headatlas.protocol.script import PromptSample, Script, load_script

CATALOG = headatlas.load()
SCRIPTS = CATALOG.find(reproduction=True)
MODELS = 20
LOOKED_AT = 5  # models on which each script's detection runs
PROMPTS = 8  # per family
ALLOWED = 0.05


@pytest.fixture(scope="module")
def untrained() -> list[OpenModel]:
    """Random weights of three architectures, five times as large as usual, so that attention is not flat."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(specimens.folder())
    made = []
    for seed in range(MODELS):
        family = ("gpt2", "gpt_neox", "llama")[seed % 3]
        torch.manual_seed(seed)
        config = FAMILIES[family]()
        config.vocab_size = len(tokenizer)
        config.num_hidden_layers = 2 + seed % 2
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        louden(model, 5.0)
        made.append(open_model(model, tokenizer=tokenizer, called=f"untrained {family} {seed}"))
    return made


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
