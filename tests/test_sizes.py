"""Modules are short, or say why they are not; functions are short."""

import ast
from pathlib import Path

import pytest

from places import ROOT

MODULE, FUNCTION = 250, 60  # lines
FILES = [path for folder in ("src", "tools", "reproductions") for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_is_short_or_says_why_not(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    if text.count("\n") > MODULE:
        assert "This module is long because" in " ".join((ast.get_docstring(tree) or "").split())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION]
    assert not long, f"more than {FUNCTION} lines: {', '.join(long)}"
