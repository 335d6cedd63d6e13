"""A quick run asks less, says so, and counts for less than a full one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import headatlas
from conftest import light
from headatlas.cli.program import main
from headatlas.cli.terminal import record_view, results_view
from headatlas.evidence import record_files, records
from headatlas.evidence.outcome import Outcome
from headatlas.lab import OpenModel
from headatlas.pages.report import report
from headatlas.progress import RunProgress
from headatlas.protocol import budget, results, run, run_many
from headatlas.protocol.assess import Selection
from headatlas.protocol.budget import FULL, QUICK_LARGE, QUICK_SMALL, amount_of
from headatlas.protocol.model_options import ModelOptions

CATALOG = headatlas.load()
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def quick(specimen: OpenModel) -> records.Record:
    return run.run(CATALOG, CATALOG.heads["duplicate-token"], specimen, budget="quick")


def test_the_size_of_a_model_settles_the_amounts(specimen: OpenModel) -> None:
    assert amount_of("full", 10**9) == amount_of("full", 1) == FULL
    assert amount_of("quick", budget.SMALL) == QUICK_LARGE and amount_of("quick", budget.SMALL - 1) == QUICK_SMALL
    tied = specimen.model.get_input_embeddings().weight.numel()
    assert budget.parameters(specimen) == sum(each.numel() for each in specimen.model.parameters()) - tied


def test_a_quick_run_draws_fewer_prompts_and_random_sets(quick: records.Record) -> None:
    assert quick.budget == "quick" and quick.behaviour and quick.detection and quick.cause
    families = len(quick.stability.families)
    assert (quick.detection.n_find, quick.detection.n_test, quick.behaviour.n) == (8 * families,) * 3
    assert quick.cause.planned_n == 8 * families >= quick.cause.n
    assert quick.cause.planned_sets == QUICK_SMALL.random_sets >= len(quick.cause.random_effects)
    assert len(quick.cause.alone) <= 3
    assert set(quick.stability.families) == set(quick.stimuli.families if quick.stimuli else [])


def test_a_full_run_draws_what_the_rule_says(specimen: OpenModel) -> None:
    record = run.run(CATALOG, light(CATALOG.heads["duplicate-token"], 4), specimen)
    assert record.budget == "full" and record.detection and record.behaviour
    assert record.detection.n_find == record.detection.n_test == record.behaviour.n == 12


def test_a_probe_is_trained_on_all_prompts_of_its_rule(specimen: OpenModel) -> None:
    rule = CATALOG.heads["truthfulness"].rule
    assert rule and rule.detection.fitted
    assert QUICK_SMALL.drawn(rule) is None and FULL.drawn(rule) is None


@pytest.mark.parametrize("undecided", [False, True])
def test_where_a_quick_run_cannot_tell_it_draws_as_many_as_the_rule_says(
    undecided: bool, specimen: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Selection, "undecided", lambda *_: undecided)
    record = run.run(CATALOG, light(CATALOG.heads["duplicate-token"], 12), specimen, budget="quick")
    assert record.detection and record.behaviour and record.cause and record.stimuli
    wanted = 36 if undecided else 24
    assert record.detection.n_find == record.detection.n_test == record.behaviour.n == wanted
    assert record.cause.planned_n == 24  # the cause is still measured on few


def test_without_the_behaviour_no_more_prompts_are_drawn(
    untrained: list[OpenModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Selection, "undecided", lambda *_: True)
    record = run.run(CATALOG, light(CATALOG.heads["duplicate-token"], 12), untrained[0], budget="quick")
    assert record.behaviour and not record.behaviour.passed and record.behaviour.n == 24


class TestRecords:
    def test_older_records_are_full(self, quick: records.Record, shipped_records: list[records.Record]) -> None:
        data = json.loads(quick.model_dump_json())
        assert data["environment"]["budget"] == "quick"
        del data["environment"]["budget"]
        assert records.Record.model_validate(data).budget == "full"
        assert "budget" not in records.Record.model_validate(data).model_dump()["environment"]
        assert {each.budget for each in shipped_records} == {"full"}

    def kept(self, folder: Path, asked: budget.Budget, again: bool = False) -> Outcome:
        job = run_many.RunRequest("specimen", ModelOptions(), (0,), folder, asked)
        (outcome,) = run_many.run_all(CATALOG, [CATALOG.heads["successor"]], job, again, 1, RunProgress())
        assert outcome.record
        return outcome

    def test_a_full_record_counts_for_a_quick_run_and_not_the_reverse(
        self, specimen: OpenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[Any] = []
        plain = run.run

        def counted(*arguments: Any) -> records.Record:
            ran.append(arguments[6])
            return plain(*arguments)

        monkeypatch.setattr(run, "run", counted)
        assert not self.kept(tmp_path, "quick").kept and self.kept(tmp_path, "quick").kept
        full = self.kept(tmp_path, "full")
        assert not full.kept and full.record and full.record.budget == "full"
        for again in (False, True):  # a quick run never replaces a full record
            outcome = self.kept(tmp_path, "quick", again)
            assert outcome.kept and outcome.record and outcome.record.budget == "full"
        assert ran == ["quick", "full"]

    def test_the_command_passes_it_on(self, tmp_path: Path, capsys: Capture) -> None:
        words = ["run", "successor", "--out", str(tmp_path), "--json"]
        assert main([*words, "--budget", "quick"]) in (0, 1)
        assert json.loads(capsys.readouterr().out)["environment"]["budget"] == "quick"


class TestMarks:
    """A reader is told that a record is quick."""

    @pytest.fixture
    def folder(self, quick: records.Record, tmp_path: Path) -> Path:
        record_files.write(quick, tmp_path)
        return tmp_path

    def test_in_a_run(self, quick: records.Record, folder: Path, capsys: Capture) -> None:
        entry = CATALOG.heads["duplicate-token"]
        record_view.print_record(CATALOG, entry, quick, folder / "x.json")
        record_view.print_verdicts(CATALOG, [Outcome(entry.id, folder / "x.json", quick)])
        said = " ".join(capsys.readouterr().out.split())
        assert "seed 0, quick budget)" in said
        assert f"{quick.verdict.label}~ " in said and "~ quick: " in said

    def test_in_the_results(
        self, quick: records.Record, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found, _ = results.collect(CATALOG, folder)
        results_view.print_results(CATALOG, found, folder)
        assert "\tquick\t" in capsys.readouterr().out
        monkeypatch.setenv("FORCE_COLOR", "1")
        results_view.print_results(CATALOG, found, folder)
        said = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split())
        assert f"{quick.verdict.label}~ " in said and "~ quick: " in said
        assert found[0].as_dict()["budget"] == "quick"

    def test_in_the_report(self, quick: records.Record, folder: Path) -> None:
        page = report(CATALOG, results.collect(CATALOG, folder)[0])
        assert ">~</span>" in page and "~ quick: fewer prompts" in page

    def test_and_of_a_full_one_nothing(self, quick: records.Record, tmp_path: Path, capsys: Capture) -> None:
        environment = quick.environment.model_copy(update={"budget": "full"})
        record_files.write(quick.model_copy(update={"environment": environment}), tmp_path)
        found, _ = results.collect(CATALOG, tmp_path)
        results_view.print_results(CATALOG, found, tmp_path)
        assert "~" not in capsys.readouterr().out and "quick" not in report(CATALOG, found)
