"""Published lists: one row per model, each read as a finding that stands alone."""

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

import headatlas
from headatlas.catalog.schema import HeadType, PublishedList
from headatlas.notation import Head
from headatlas.protocol.assess import literature_of

CATALOG = headatlas.load()
LIST: dict[str, Any] = {
    "id": "scores-of-lee",
    "title": "Scores of Lee et al.",
    "statement": "In {model} {reach} of {total} heads reach 0.1 over {n} texts; {best} leads the {count} listed.",
    "kind": "behavioural",
    "source": "lee2024heads",
    "at": "group/project@3ac171a",
    "checked": "primary",
    "metric": "score",
    "unit": "share of attention",
    "tolerance": 0.05,
    "models": [
        {
            "id": "scores-gpt2",
            "model": "gpt2",
            "model_name": "GPT-2 small",
            "file": "gpt2.json",
            "reach": 9,
            "total": 144,
            "n": 50,
            "scores": {"L5H1": 0.9, "L0H2": 0.5},
            "note": "L5H1 stands out.",
        }
    ],
}


def read(**changed: Any) -> PublishedList:
    return PublishedList.model_validate_json(as_json(LIST | changed))


def as_json(value: dict[str, Any]) -> str:
    return json.dumps(value)


def test_a_row_is_a_finding_that_stands_alone() -> None:
    [finding] = read().findings
    assert finding.statement == (
        "In GPT-2 small 9 of 144 heads reach 0.1 over 50 texts; L5H1 leads the 2 listed. L5H1 stands out."
    )
    assert (finding.id, finding.model, finding.n, finding.at) == (
        "scores-gpt2",
        "gpt2",
        50,
        "group/project@3ac171a gpt2.json",
    )
    assert finding.heads == (Head(5, 1), Head(0, 2)) and finding.scores == {"L5H1": 0.9, "L0H2": 0.5}
    assert (finding.metric, finding.unit, finding.published_list) == ("score", "share of attention", "scores-of-lee")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scores", {}, "lists no heads"),
        ("reach", None, "has no `reach:`"),
        ("n", None, "has no `n:`"),
    ],
)
def test_a_row_that_lacks_something_is_refused(field: str, value: Any, message: str) -> None:
    rows = copy.deepcopy(LIST["models"])
    rows[0][field] = value
    with pytest.raises(ValidationError, match=message):
        read(models=rows)


def test_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"a place \{layer\}"):
        read(statement="Heads of {model} in {layer}.")


def test_the_rows_are_findings_of_the_entry_once() -> None:
    entry = CATALOG.heads["retrieval"]
    rows = [each.id for published in entry.published_lists for each in published.models]
    assert len(rows) == 12 and [each.id for each in entry.findings if each.published_list] == rows
    again = HeadType.model_validate_json(entry.model_dump_json(exclude={"status"}))
    assert again.findings == entry.findings


def test_a_finding_outside_lists_cannot_claim_one() -> None:
    raw = CATALOG.heads["retrieval"].model_dump(mode="json", exclude={"status"})
    raw["findings"] = [raw["findings"][0] | {"published_list": "scores-of-fu-et-al"}]
    with pytest.raises(ValidationError, match="is no row of a published list"):
        HeadType.model_validate_json(as_json(raw))


def test_scores_of_a_list_are_compared_head_by_head() -> None:
    compared = literature_of(None, read().findings).findings
    assert [(each.heads, each.reported, each.agrees) for each in compared] == [
        (["L5H1"], 0.9, None),
        (["L0H2"], 0.5, None),
    ]


def test_what_we_measured_stands_beside_each_score() -> None:
    score = [[0.0, 0.0, 0.54]] + [[0.0, 0.0]] * 4 + [[0.0, 0.8]]
    measured: Any = SimpleNamespace(score=score, selected=["L5H1"])
    found = literature_of(measured, read().findings)
    assert [(each.measured, each.agrees) for each in found.findings] == [(0.8, False), (0.54, True)]
    assert found.shared == ["L5H1"]
