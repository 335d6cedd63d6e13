"""A model without the behaviour gets no scores where they would say nothing, or cost much in a quick run."""

from pathlib import Path

import pytest

import headatlas
from conftest import light
from headatlas.cli.terminal import record_view
from headatlas.evidence import record_files, records
from headatlas.evidence.outcome import Outcome
from headatlas.lab import OpenModel
from headatlas.pages.report import report
from headatlas.protocol import results, run
from headatlas.protocol.budget import Budget

CATALOG = headatlas.load()
SHARE, COSTLY = "retrieval", "copy-suppression"


def made(id: str, model: OpenModel, budget: Budget) -> records.Record:
    return run.run(CATALOG, light(CATALOG.heads[id], 4), model, budget=budget)


@pytest.mark.parametrize("budget", ["quick", "full"])
def test_a_score_that_is_a_share_of_a_behaviour(budget: Budget, untrained: list[OpenModel]) -> None:
    record = made(SHARE, untrained[0], budget)
    assert record.behaviour and not record.behaviour.passed and record.stimuli
    assert record.detection is None and record.cause is None
    assert record.verdict.label == "inconclusive" and set(record.stability.families.values()) == {"inconclusive"}
    assert record.verdict.reasons[0].startswith("behaviour absent")
    assert "no head was scored: the score is a share of a behaviour" in record.verdict.reasons[1]


def test_a_costly_score_in_a_quick_run_only(untrained: list[OpenModel]) -> None:
    quick, full = (made(COSTLY, untrained[0], budget) for budget in ("quick", "full"))
    assert quick.behaviour and not quick.behaviour.passed and full.detection and full.cause is None
    assert quick.detection is None and "costly" in quick.verdict.reasons[1]
    assert quick.verdict.label == full.verdict.label == "inconclusive"


def test_is_shown_as_such(untrained: list[OpenModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = made(SHARE, untrained[0], "full")
    path = record_files.write(record, tmp_path)
    record_view.print_record(CATALOG, CATALOG.heads[SHARE], record, path)
    record_view.print_verdicts(CATALOG, [Outcome(SHARE, path, record)])
    said = " ".join(capsys.readouterr().out.split())
    assert "no head was scored" in said and "behaviour 0" in said
    found, _ = results.collect(CATALOG, tmp_path)
    page = report(CATALOG, found)
    assert "no head was scored" in page and "No head was found" not in page
    assert found[0].as_dict()["verdict"] == "inconclusive"
