"""Whole runs: one seed gives one record, an untrained model no find, and agreement is put in the right words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import headatlas
import planted
from conftest import light
from headatlas.catalog.schema import Finding
from headatlas.evidence import records
from headatlas.lab import OpenModel, Scores, open_model
from headatlas.notation import Head
from headatlas.protocol import assess, interventions, run, script
from headatlas.protocol.provenance import catalog_id
from headatlas.stimuli import Prompt, UntestableError

CATALOG = headatlas.load()
Tiny = Callable[[str], Path]


def stable(record: records.Record) -> dict:
    """A record without what may differ between two runs: time and memory."""
    data = json.loads(record.model_dump_json())
    for key in ("started", "seconds", "peak_memory_mb"):
        del data["environment"][key]
    return data


@pytest.mark.slow
def test_two_runs_with_one_seed_give_one_record(specimen: OpenModel) -> None:
    entry = light(CATALOG.heads["duplicate-token"], 12)
    one, two = (run.run(CATALOG, entry, specimen, seeds=[3]) for _ in range(2))
    assert one.cause and stable(one) == stable(two)


def test_another_seed_draws_other_stimuli(specimen: OpenModel) -> None:
    entry = light(CATALOG.heads["successor"], 4)
    one, two = (run.run(CATALOG, entry, specimen, seeds=[seed]) for seed in (0, 1))
    assert one.stimuli and two.stimuli and one.stimuli.sha256 != two.stimuli.sha256


# Scores of five kinds: attention between pairs, path patching, a share of a behaviour, probes, learned scales. What
# every script concludes of untrained models is tested in reproductions/test_false_positives.py.
OF_EACH_KIND = ("induction", "name-mover", "faithfulness", "truthfulness", "accuracy")


@pytest.mark.parametrize(
    "family", ["gpt2", *(pytest.param(each, marks=pytest.mark.slow) for each in ("mistral", "gemma"))]
)
@pytest.mark.parametrize("id", OF_EACH_KIND)
def test_an_untrained_model_is_inconclusive_and_nothing_is_found(family: str, id: str, tiny: Tiny) -> None:
    record = run.run(CATALOG, CATALOG.heads[id], open_model(str(tiny(family))))
    assert record.verdict.label == "inconclusive"
    assert record.selected == []


def test_a_search_changes_what_finds_and_tests_heads_and_leaves_the_behaviour(
    specimen: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchanged(prompt: Prompt) -> Prompt:
        return replace(
            prompt, readouts=tuple(replace(r, answer=r.rivals[0], rivals=(r.answer,)) for r in prompt.readouts)
        )

    def search(model: OpenModel, drawn: script.PromptSample) -> script.PromptSample:
        seen.append(drawn.split)
        return replace(drawn, prompts=[exchanged(p) if p.readouts else p for p in drawn.prompts])

    def nothing(model: OpenModel, drawn: script.PromptSample) -> script.PromptSample:
        raise UntestableError("the model makes no mistake")

    seen: list[str] = []
    monkeypatch.setattr(
        interventions, "first_third", lambda count: count
    )  # all prompts, so that the effects are of the same ones
    entry, loaded = CATALOG.heads["duplicate-token"], script.load_script("duplicate-token")
    monkeypatch.setattr(run, "load_script", lambda *_, **__: loaded)
    plain = run.run(CATALOG, entry, specimen)
    monkeypatch.setattr(loaded.module, "search", search, raising=False)
    changed = run.run(CATALOG, entry, specimen)
    assert seen == ["find", "test", "test"]
    assert changed.behaviour == plain.behaviour and changed.selected == plain.selected
    assert plain.cause and changed.cause and changed.cause.effect == pytest.approx(-plain.cause.effect, rel=1e-4)
    monkeypatch.setattr(loaded.module, "search", nothing)
    assert "makes no mistake" in run.run(CATALOG, entry, specimen).verdict.reasons[0]


def detection_with(scores: dict[Head, float]) -> records.Detection:
    """Detection on a GPT-2-small shape with the given scores, by the induction entry's rule."""
    score = np.full((24, 12, 12), 0.01)
    for head, value in scores.items():
        score[:, head.layer, head.head] = value
    rng = np.random.default_rng(0)
    both = {
        split: Scores(score + rng.normal(0, 0.003, score.shape), np.full_like(score, 0.01))
        for split in ("find", "test")
    }
    return assess.detection_of(CATALOG.heads["induction"].reproduction.rule, both)  # type: ignore[arg-type]


def test_findings_that_limit_the_account_name_no_heads_to_be_found() -> None:
    base = {
        "statement": "s",
        "kind": "causal",
        "source": "a2020b",
        "at": "p",
        "checked": "primary",
        "model": "gpt2",
    }
    against = Finding.model_validate(base | {"id": "x", "stance": "contradicts", "heads": (Head(0, 0),)})
    assert assess.literature_of(detection_with({Head(5, 1): 0.963, Head(6, 9): 0.785}), [against]).overlap_p is None


def test_a_tokenizer_that_cannot_say_it_is_inconclusive_with_the_reason() -> None:
    model = planted.induction_circuit("llama", Head(0, 0), Head(1, 0)).open()
    for id in ("duplicate-token", "name-mover", "successor"):
        record = run.run(CATALOG, CATALOG.heads[id], model)
        assert record.verdict.label == "inconclusive"
        assert "the stimuli cannot be made" in record.verdict.reasons[0]
        assert record.detection is None and record.stimuli is None


def test_a_model_is_recognised_by_its_weights_or_hub_id(specimen: OpenModel) -> None:
    assert catalog_id(CATALOG, specimen) == "specimen"
    stranger = replace(specimen, name="gpt2", revision=None)
    assert catalog_id(CATALOG, stranger) is None, "a local folder that happens to be called gpt2 is not GPT-2"
    assert catalog_id(CATALOG, replace(stranger, revision="abc")) == "gpt2"
    weights = CATALOG.models["stories260k"].sha256
    assert weights and catalog_id(CATALOG, replace(stranger, sha256=weights)) == "stories260k"
    toy = replace(stranger, name="toy", opened=replace(specimen.opened, source="loaded"))
    assert catalog_id(CATALOG, toy) == "toy" and "toy" in CATALOG.models
    assert catalog_id(CATALOG, replace(toy, opened=specimen.opened)) is None, "a folder called toy"


def test_a_script_that_does_not_import_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(headatlas.HeadatlasError, match="does not import"):
        script.load_script("broken", tmp_path)
    with pytest.raises(headatlas.HeadatlasError, match="has no reproduction script"):
        script.load_script("missing", tmp_path)
