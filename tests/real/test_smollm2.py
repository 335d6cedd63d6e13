"""headatlas on a model that somebody else trained, SmolLM2 135M Instruct (a Llama of 30 layers x 9 heads)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

import headatlas
from conftest import light
from headatlas.fetching import stored
from headatlas.lab import OpenModel, doctor, metric_per_prompt
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_behaviour
from headatlas.protocol.provenance import catalog_id, model_record
from headatlas.protocol.run import run
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt

CATALOG = headatlas.load()
ID = "smollm2-135m-instruct"


def test_it_is_what_the_catalog_says(smollm2: OpenModel) -> None:
    known = CATALOG.models[ID]
    assert known.packages
    record = model_record(smollm2, catalog_id(CATALOG, smollm2))
    assert (record.catalog_id, record.name) == (ID, "SmolLM2-135M-Instruct (Q4_1)")
    assert (record.layers, record.heads, record.kv_heads, record.d_head) == (
        *(known.layers, known.heads, known.kv_heads, known.d_head),
    )
    assert record.sha256 == known.packages.sha256
    assert stored.size(stored.place(known)) == pytest.approx(known.packages.folder_size, rel=0.01)


def test_the_doctor_is_content(smollm2: OpenModel) -> None:
    diagnosis = doctor(smollm2)
    assert diagnosis.safe and not [check for check in diagnosis.checks if check.verdict == "fail"], diagnosis


@pytest.mark.filterwarnings("ignore")
def test_weights_equal_those_that_transformers_reads_from_the_file(smollm2: OpenModel, smollm2_file: Path) -> None:
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_file.parent, gguf_file=smollm2_file.name, dtype=torch.float32
    ).state_dict()
    ours = smollm2.model.state_dict()
    assert plain.keys() == ours.keys() and len(ours) > 250
    assert all(torch.equal(plain[name], ours[name]) for name in ours)


def test_it_knows_who_gets_the_gift(smollm2: OpenModel) -> None:
    """In nats. headatlas puts BOS before every prompt; the model's own tokenizer does not, and then it does better."""
    rule = CATALOG.heads["name-mover"].rule
    assert rule
    script = load_script("name-mover", rule=rule)
    task = draw(script, rule, smollm2, 0).task
    assert measure_behaviour(script, smollm2, task).mean() > 3
    bare = metric_per_prompt(smollm2, [_without_bos(prompt) for prompt in task.prompts], script.behaviour)
    assert bare.mean() > 4 and (bare > 0).mean() > 0.9


def _without_bos(prompt: Prompt) -> Prompt:
    readouts = tuple(replace(each, position=each.position - 1) for each in prompt.readouts)
    return Prompt(tokens=prompt.tokens[1:], corrupted=prompt.corrupted[1:], readouts=readouts)


def test_induction_is_reproduced_on_heads_of_the_middle(smollm2: OpenModel) -> None:
    record = run(CATALOG, light(CATALOG.heads["induction"], 3), smollm2)
    assert record.verdict.label == "reproduced", record.verdict.reasons
    best = record.selected[:5]
    assert len(best) == 5 and all(16 <= head.layer <= 24 for head in best)
