"""Which facts one export of findings lacks that another had."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import load_tool

compare = load_tool("compare_exports")
EMPTY = {"scores": "", "value": None, "error": None, "n": None, "at": "Figure 1"}


def row(**given: Any) -> dict[str, Any]:
    return {"type": "induction", "source": "lee2024heads", "model": "gpt2", "heads": "", **EMPTY, **given}


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows), encoding="utf-8")
    return path


def test_rows_that_become_one_lose_nothing(tmp_path: Path) -> None:
    apart = [row(heads="L5H1", value=0.9, n=7), row(heads="L6H9", value=0.8, at="group/project@3ac171a scores/a.json")]
    one = [row(heads="L5H1 L6H9", scores="L5H1=0.9 L6H9=0.8", n=7, at="group/project@3ac171a, sorted: a.json")]
    assert compare.lost(written(tmp_path, "before", apart), written(tmp_path, "after", one)) == []


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"heads": "L5H1"}, ("head", "L6H9")),
        ({"scores": "L5H1=0.9 L6H9=0.81"}, ("score", "L6H9", "0.8")),
        ({"n": None}, ("n", "7")),
        ({"at": "elsewhere"}, ("place", "a.json")),
        ({"model": "gpt2-medium"}, ("head", "L5H1")),
    ],
)
def test_what_is_lost_is_said(tmp_path: Path, changed: dict[str, Any], fact: tuple[str, ...]) -> None:
    before = row(heads="L5H1 L6H9", scores="L5H1=0.9 L6H9=0.8", n=7, at="scores/a.json")
    missing = compare.lost(written(tmp_path, "before", [before]), written(tmp_path, "after", [before | changed]))
    assert ("induction", "lee2024heads", "gpt2", *fact) in missing
