"""Detection must find exactly the heads whose weights were written by hand, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

import headatlas
from headatlas import run
from headatlas.evidence import statistics
from headatlas.lab import attention_scores, open_model
from headatlas.notation import Head
from headatlas.script import load_script

Circuit = tuple[Path, Head, Head]


def found(id: str, folder: Path) -> list[Head]:
    """The heads that a reproduction's detection selects, by the entry's own rule."""
    rule = headatlas.load().heads[id].reproduction.rule
    script, model = load_script(id), open_model(str(folder))
    drawn = script.draw("stimulus", model.vocabulary, "find", rule.find, 0)
    scores = script.detect(model, drawn) if script.detect else attention_scores(model, drawn.prompts)
    q = statistics.q_values(statistics.above_control(scores.score, scores.control))
    return statistics.select(scores.score.mean(0), q, rule.detection.threshold, rule.detection.fdr)


def test_finds_exactly_the_planted_previous_token_head(planted_circuit: Circuit) -> None:
    folder, previous, _ = planted_circuit
    assert found("previous-token", folder) == [previous]


def test_finds_exactly_the_planted_induction_head(planted_circuit: Circuit) -> None:
    folder, _, induction = planted_circuit
    assert found("induction", folder) == [induction]


def test_finds_no_duplicate_token_head_in_an_induction_circuit(planted_circuit: Circuit) -> None:
    assert found("duplicate-token", planted_circuit[0]) == []


def test_an_offset_is_positional_and_a_match_is_not(planted_circuit: Circuit) -> None:
    folder, previous, _ = planted_circuit
    assert found("positional", folder) == [previous]


def test_a_gaze_at_earlier_copies_is_global_and_an_offset_is_not(planted_circuit: Circuit) -> None:
    folder, _, induction = planted_circuit
    assert found("global-retrieval", folder) == [induction]


def test_planted_induction_is_reproduced_and_caused_by_both_heads(planted_circuit: Circuit) -> None:
    folder, _, induction = planted_circuit
    catalog = headatlas.load()
    record = run.run(catalog, catalog.heads["induction"], open_model(str(folder)))
    assert record.verdict.label == "reproduced"
    assert record.selected == [induction]
    assert record.behaviour is not None and record.behaviour.value > 0.95
    assert record.cause is not None and record.cause.effect > 0.9
    assert max(map(abs, record.cause.random_effects)) > 0.9, "the previous-token head must matter as much"
    assert np.median(record.cause.random_effects) < 0.05, "and the other heads not at all"


@pytest.mark.parametrize("previous, induction", [(Head(0, 0), Head(1, 0)), (Head(4, 3), Head(7, 3))])
def test_finds_the_circuit_wherever_it_is_planted(previous: Head, induction: Head, tmp_path: Path) -> None:
    import planted

    planted.llama(tmp_path, previous, induction, seed=7)
    assert found("previous-token", tmp_path) == [previous]
    assert found("induction", tmp_path) == [induction]
