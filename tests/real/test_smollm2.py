"""headatlas on a model that somebody else trained, SmolLM2 135M Instruct (a Llama of 30 layers x 9 heads)."""

from pathlib import Path

import pytest
import torch
import transformers

import headatlas
from conftest import light
from headatlas.fetching import stored
from headatlas.lab import OpenModel, doctor
from headatlas.protocol.draw_stimuli import draw
from headatlas.protocol.measure import measure_behaviour
from headatlas.protocol.provenance import catalog_id, model_record
from headatlas.protocol.run import run
from headatlas.protocol.script import load_script

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
    """In nats. Its BOS opens a turn of a chat, so prompts start without it."""
    rule = CATALOG.heads["name-mover"].rule
    assert rule and smollm2.vocabulary.bos == ()
    script = load_script("name-mover", rule=rule)
    found = measure_behaviour(script, smollm2, draw(script, rule, smollm2, 0).task)
    assert found.mean() > 4 and (found > 0).mean() > 0.9


def test_induction_is_reproduced_on_heads_of_the_middle(smollm2: OpenModel) -> None:
    record = run(CATALOG, light(CATALOG.heads["induction"], 3), smollm2)
    assert record.verdict.label == "reproduced", record.verdict.reasons
    best = record.selected[:5]
    assert len(best) == 5 and all(16 <= head.layer <= 24 for head in best)
