"""The notebooks of `examples/`: they run from top to bottom, and are kept without outputs.

Their cells are plain Python without magics, so they are executed as that: a notebook server would bring 25 packages to
the tests and do the same.
"""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from places import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[str]:
    """The cells of a kind, as text."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Execute a cell, and return what a notebook would show below it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each cell of a notebook shows."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        found = [shown(source, names) for source in cells(request.param, "code")]
        names["m"].close()
    return found


def test_every_cell_runs_and_shows_itself(results: list[Any]) -> None:
    kept = [each for each in results if each is not None]
    assert len(kept) >= 8
    assert sum(hasattr(each, "_repr_html_") for each in kept) >= 7
    for each in kept:
        assert len(repr(each)) < 2000 and len(getattr(each, "_repr_html_", str)()) < 100_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs_and_magics(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and path.stat().st_size < 20_000
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            assert not any(line.startswith(("%", "!")) for line in cell["source"])


def test_both_are_linked_where_people_look() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first_hour.ipynb", "your_own_model.ipynb"]
    for page in ("README.md", "site/python.md"):
        assert all(path.name in (ROOT / page).read_text(encoding="utf-8") for path in NOTEBOOKS)
