"""The census on models: the specimen, planted heads, models that have learned nothing; shards, interruptions, plans."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headatlas
from census_plans import plan_of, taken
from headatlas import locations
from headatlas.census import cache, job, labelling, measuring, planning, reading, running
from headatlas.census.cache import Plan
from headatlas.census.schema import Census
from headatlas.cli.program import main
from headatlas.evidence import record_files, records
from headatlas.lab import OpenModel, attention_scores
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.protocol import budget
from headatlas.protocol.script import load_script
from headatlas.stimuli import Prompt
from planted import Architecture
from planted_circuits import PROMPTS, placing, reciting

CATALOG = headatlas.load()
FEW = ("duplicate-token", "iteration", "mover", "successor")  # two that share runs of the model, two that do not


def timeless(found: Census) -> dict[str, Any]:
    """A census without what differs from run to run: times, memory, and how work that is shared was shared out."""
    data = found.model_dump(mode="json")
    del data["environment"]
    for each in data["types"]:
        del each["work"]
    return data


def close(one: Any, other: Any) -> bool:
    """Equal up to the order of floating-point sums."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return bool(np.isclose(one, other, rtol=1e-4, atol=1e-5))
    return bool(one == other)


# --- attention for many questions at once ---------------------------------------------------------------------------


def test_shared_attention_is_attention_and_reads_equal_tokens_once(specimen: OpenModel) -> None:
    rng = random.Random(0)
    prompts = []
    for length in (7, 12, 12, 20):
        tokens, control = (specimen.vocabulary.draw(rng, length) for _ in range(2))
        pairs = tuple(
            (query, key) for query in range(2, length) for key in rng.sample(range(query), rng.choice([1, 2]))
        )
        prompts.append(Prompt(tokens, control, pairs, pairs[:1]))
    own = attention_scores(specimen, [prompts[0]])
    twice = [PairQuestion(each.tokens, each.pairs) for each in prompts] + [
        PairQuestion(each.tokens, each.pairs[:3]) for each in prompts
    ]
    with count_passes(specimen) as count:
        found = attention_between(specimen, twice)
    assert count.tokens == pytest.approx(sum(len(each.tokens) for each in prompts))
    assert np.allclose(found[0], own.score[0], atol=1e-6)
    for number, prompt in enumerate(prompts):
        for place, pairs in ((number, prompt.pairs), (number + 4, prompt.pairs[:3])):
            alone = attention_scores(specimen, [Prompt(prompt.tokens, prompt.corrupted, pairs)])
            assert np.allclose(found[place], alone.score[0], atol=1e-6)


def test_types_that_share_runs_score_as_they_do_alone(specimen: OpenModel) -> None:
    types = ["duplicate-token", "iteration", "local-context"]
    found = {part.entry.id: part for part in running.measure_types(CATALOG, specimen, plan_of(specimen, types))}
    for id in types:
        rule = CATALOG.heads[id].rule
        assert rule
        n = found[id].scores.n // 3  # type: ignore[union-attr]
        drawn = load_script(id).draw("stimulus", specimen.vocabulary, "find", n, 0)
        own = attention_scores(specimen, drawn.prompts)
        assert np.allclose(found[id].scores.find, own.score.mean(0), atol=1e-6)  # type: ignore[union-attr]
        assert np.allclose(found[id].scores.find_control, own.null.mean(0), atol=1e-6)  # type: ignore[union-attr]


# --- the specimen ---------------------------------------------------------------------------------------------------


def recorded() -> dict[str, records.Record]:
    every = (record_files.read(path) for path in (locations.records() / "specimen").glob("*.json"))
    return {each.entry.id: each for each in every if each.verdict.label == "reproduced"}


@pytest.mark.slow
def test_what_the_reproductions_find_on_the_specimen_the_census_finds_on_the_same_heads(specimen: OpenModel) -> None:
    """Fewer prompts move scores a little: only heads whose recorded score lies near the threshold may differ.

    Or those which fewer prompts do not tell from their control where all types are tested together.
    """
    kept = recorded()
    assert len(kept) >= 10
    found = {each.id: each for each in taken(specimen, plan_of(specimen, kept)).types}
    for id, record in kept.items():
        assert record.detection
        here, there = set(found[id].heads), set(record.detection.selected)
        best = max(record.detection.find[head.layer][head.head] for head in map(Head.parse, there))
        assert here & there or best < 1.1 * record.detection.threshold, f"{id} is not found"
        for text in here ^ there:
            head = Head.parse(text)
            score, q = (grid[head.layer][head.head] for grid in (record.detection.find, found[id].q or []))
            if q > found[id].fdr:
                continue
            assert score == pytest.approx(record.detection.threshold, rel=0.6), f"{id}: {text} scores {score:.3f}"
        assert len(here ^ there) <= max(1, len(there) / 2), f"{id}: {here} instead of {there}"


def test_the_recorded_census_finds_what_the_records_find() -> None:
    """With as many prompts as they have it finds the same heads, also those near a threshold."""
    kept = recorded()
    found = {each.id: each for each in reading.read(locations.censuses() / "specimen.json").types}
    for id, record in kept.items():
        assert record.detection
        assert set(found[id].heads) & set(record.detection.selected), f"{id} is not found"


def test_causes_are_those_of_a_run_with_fewer_sets(specimen: OpenModel) -> None:
    (found,) = taken(specimen, plan_of(specimen, ["letter-mover"], cause=True)).types
    assert found.causal == "supported" and found.tested
    assert found.tested.figures.planned_sets == budget.QUICK_SMALL.random_sets
    record = recorded()["letter-mover"]
    assert record.cause and found.tested.figures.effect == pytest.approx(record.cause.effect, rel=0.3)


# --- planted heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture, seed", [("gpt2", 11), ("llama", 12)])
def test_planted_heads_get_their_names_and_those_with_two_roles_both(architecture: Architecture, seed: int) -> None:
    made, planted = placing(architecture, seed)
    with made.open() as model:
        found = taken(model, plan_of(model, planted, prompts=PROMPTS))
    named: dict[str, set[str]] = {}
    for type, heads in planted.items():
        for head in heads:
            named.setdefault(str(head), set()).add(type)
    assert any(len(types) > 1 for types in named.values())
    assert {head.head: {each.type for each in head.labels} for head in found.heads if head.labels} == named


@pytest.mark.parametrize("architecture, seed", [pytest.param("gpt2", 13, marks=pytest.mark.slow), ("llama", 14)])
def test_a_planted_circuit_is_named_head_by_head(architecture: Architecture, seed: int) -> None:
    made, planted = reciting(architecture, seed)
    with made.open() as model:
        found = taken(model, plan_of(model, planted, prompts=PROMPTS))
    for type, heads in planted.items():
        named = [each.head for each in found.heads if type in {label.type for label in each.labels}]
        assert {Head.parse(head) for head in named} == set(heads), type


# --- models that have learned nothing -------------------------------------------------------------------------------


@pytest.mark.slow
def test_few_heads_of_untrained_models_have_a_name(untrained: list[OpenModel]) -> None:
    """Every type on a model of each architecture. One that named a fifth of them would pass once in 60 times."""
    check_names(untrained[:3], least=28)


@pytest.mark.slow
def test_few_heads_of_twenty_untrained_models_have_a_name(twenty_untrained: list[OpenModel]) -> None:
    """One that named a tenth of them would pass once in 100 times."""
    check_names(twenty_untrained, least=200)


def check_names(models: list[OpenModel], least: int) -> None:
    """At most one head in twenty is given a name by chance."""
    named, heads, claims = 0, 0, []
    for model in models:
        found = taken(model, plan_of(model))
        named, heads = named + found.summary.labelled, heads + found.summary.heads
        claims += [f"{each.id} on {model.name}: {', '.join(each.heads)}" for each in found.types if each.heads]
    assert heads >= least
    assert named <= 0.05 * heads, claims


@pytest.mark.parametrize("id", ["truthfulness", "consistency"])
def test_a_probe_is_never_trained_on_a_handful(id: str, untrained: list[OpenModel]) -> None:
    """On four prompts of each family it would find truth in every third model that has learned nothing."""
    rule = CATALOG.heads[id].rule
    assert rule
    for model in untrained[:3]:
        plan = plan_of(model, [id], prompts=4)
        (part,) = running.measure_types(CATALOG, model, plan)
        assert part.scores and part.scores.n == 3 * rule.find
        assert not labelling.census_of(CATALOG, plan, [part]).summary.labelled


def test_what_is_fitted_is_said_in_the_catalog() -> None:
    """A census asks the rule, not the script."""
    fitted = {id for id in CATALOG.find(reproduction=True) if "probe_heads" in vars(load_script(id).module)}
    assert fitted and fitted == {id for id, each in CATALOG.heads.items() if each.rule and each.rule.detection.fitted}


# --- shards and interruptions ---------------------------------------------------------------------------------------


def test_a_share_of_a_behaviour_is_no_score_without_it(untrained: list[OpenModel]) -> None:
    model = untrained[0]
    (part,) = running.measure_types(CATALOG, model, plan_of(model, ["faithfulness"], prompts=2))
    assert part.status == "untestable" and part.behaviour and not part.behaviour.passed and part.scores is None


@pytest.fixture(scope="module")
def whole(specimen: OpenModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Census]:
    plan, folder = plan_of(specimen, FEW, prompts=4, cause=True), tmp_path_factory.mktemp("whole")
    cache.write_plan(plan, folder)
    taken(specimen, plan, folder)
    return plan, folder, labelling.collect(CATALOG, [folder])[0]


@pytest.mark.slow
def test_three_shards_merged_are_one_run(
    specimen: OpenModel, whole: tuple[Plan, Path, Census], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, _, one = whole
    every = []
    for number in (1, 2, 3):
        ids = [id for unit in running.units(plan.settings, (number, 3)) for id in unit]
        every += ids
        cache.write_plan(plan, tmp_path / str(number))
        list(running.measure_types(CATALOG, specimen, plan, tmp_path / str(number), ids))
    assert sorted(every) == sorted(FEW)
    folders = [str(tmp_path / str(number)) for number in (3, 1, 2)]
    assert main(["merge", *folders, "--out", str(tmp_path / "joined"), "--json"]) == 0
    joined = Census.model_validate_json((tmp_path / "joined" / "census.json").read_text())
    assert json.loads(capsys.readouterr().out)["summary"] == joined.model_dump(mode="json")["summary"]
    assert close(timeless(joined), timeless(one))
    assert main(["merge", *folders[:2], "--out", str(tmp_path / "part")]) == 2
    assert "not measured yet" in capsys.readouterr().err and not (tmp_path / "part").exists()


def test_a_finished_census_is_kept_and_what_changed_is_measured_again(
    specimen: OpenModel, whole: tuple[Plan, Path, Census], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder, one = whole
    for path in (folder / "parts").glob("*.json"):
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / path.name).write_bytes(path.read_bytes())

    def written() -> dict[str, int]:
        return {each.stem: each.stat().st_mtime_ns for each in (tmp_path / "parts").glob("*.json")}

    before = written()
    assert close(timeless(taken(specimen, plan, tmp_path)), timeless(one)) and written() == before
    path = tmp_path / "parts" / "mover.json"
    whole_text = path.read_text()
    for damage in (
        lambda text: text[:200],
        lambda text: text.replace(specimen.sha256, "0" * 64),
        lambda text: text.replace('"status":"measured"', '"status":"failed"'),
        lambda text: text.replace('"seed":0', '"seed":1'),
        lambda text: text.replace('"script_sha256":"', '"script_sha256":"0'),
    ):
        path.write_text(damage(whole_text))
        before = written()
        assert close(timeless(taken(specimen, plan, tmp_path)), timeless(one))
        assert [id for id, when in written().items() if when != before[id]] == ["mover"]


@pytest.mark.slow
def test_a_killed_census_goes_on_where_it_was(whole: tuple[Plan, Path, Census], tmp_path: Path) -> None:
    """Killed without warning as soon as one part stands; the second run measures only the others."""
    words = ["census", "specimen", "--types", ",".join(FEW), "--prompts", "4", "--jobs", "1", "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "headatlas", *words], stdout=subprocess.DEVNULL, env=os.environ)
    folder, deadline = tmp_path / "specimen" / "parts", time.monotonic() + 120
    while not list(folder.glob("*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    stood = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 0 < len(stood) < len(FEW) and not (tmp_path / "specimen" / "census.json").exists()
    assert main(words) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in stood.items())
    resumed = Census.model_validate_json((tmp_path / "specimen" / "census.json").read_text())
    assert close(timeless(resumed), timeless(whole[2]))


def test_a_score_that_is_no_number_ends_its_own_type_alone(
    specimen: OpenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = measuring.measure_attention_scores

    def broken(*given: Any) -> Any:
        first, *rest = plain(*given)
        first.score[:, 2, 1] = np.nan
        return [first, *rest]

    monkeypatch.setattr(measuring, "measure_attention_scores", broken)
    found = {
        each.id: each for each in taken(specimen, plan_of(specimen, ["duplicate-token", "n-gram"], 2), tmp_path).types
    }
    assert found["duplicate-token"].status == "untestable" and "not a number for L2H1" in str(
        found["duplicate-token"].reason
    )
    assert found["n-gram"].status == "measured"


def test_a_fault_of_one_script_stops_nothing(
    specimen: OpenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(specimen, ["mover", "successor"], prompts=4)

    def fail(*_: object) -> None:
        raise IndexError("list index out of range")

    script = load_script("mover")
    monkeypatch.setattr(script.module, "detect", fail)
    monkeypatch.setattr(job, "load_script", lambda id, **rule: script if id == "mover" else load_script(id, **rule))
    found = {each.id: each for each in taken(specimen, plan, tmp_path).types}
    assert found["mover"].status == "failed" and "IndexError" in str(found["mover"].reason)
    assert found["successor"].status == "measured"
    monkeypatch.undo()
    assert {each.status for each in taken(specimen, plan, tmp_path).types} == {"measured"}


# --- what it costs --------------------------------------------------------------------------------------------------


def test_the_plan_counts_the_prompts_that_a_census_draws(specimen: OpenModel) -> None:
    types = ["induction", "name-mover", "vulnerable"]
    plan = plan_of(specimen, types, prompts=3)
    costs = planning.costs_of(CATALOG, specimen, plan.settings, types)
    assert costs.types == 2 and list(costs.left_out) == ["vulnerable"]
    assert costs.prompts == 2 * 3 * 3 * 3  # types, samples, families, prompts
    more = planning.costs_of(CATALOG, specimen, plan_of(specimen, types, prompts=6).settings, types)
    assert more.prompts == 2 * costs.prompts and more.tokens > costs.tokens
    assert costs.weights_mb < costs.memory_mb and 0 < costs.least_seconds < costs.most_seconds


def test_a_costly_score_is_left_out_where_the_behaviour_is_absent(untrained: list[OpenModel]) -> None:
    model = untrained[0]
    (part,) = running.measure_types(CATALOG, model, plan_of(model, ["accuracy"], prompts=2))
    assert part.status == "left out" and part.behaviour and not part.behaviour.passed
    assert "--budget full" in str(part.reason)
