"""Hashes code by what it does: comments, docstrings and layout do not count, nor does the version of Python.

Nothing is imported, so that a hash is cheap.
"""

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

from headatlas import stimuli

_STIMULI = "headatlas.stimuli"
_LEFT_OUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_NAMED = {tokenize.NEWLINE: "\n", tokenize.INDENT: "{", tokenize.DEDENT: "}"}
# From Python 3.12 on, an f-string is several tokens; here it is one piece of text in every version.
_OPENS = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")} - {None}
_CLOSES = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")} - {None}


def script_sha256(script: Path) -> str:
    """A hash of the code of one file."""
    return hashlib.sha256(code_of(script.read_text(encoding="utf-8")).encode()).hexdigest()


def stimuli_sha256(script: Path) -> str:
    """A hash of the code that draws a script's stimuli: every module of headatlas.stimuli it leads to."""
    digest = hashlib.sha256()
    for name in modules_reached(script):
        digest.update(f"{name}\n{code_of(_path(name).read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()


def modules_reached(script: Path) -> list[str]:
    """The modules of headatlas.stimuli that a script imports, and those that these import, without the package."""
    waiting = set(_imports(script.read_text(encoding="utf-8")))
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting |= _imports(_path(name).read_text(encoding="utf-8"))
    return sorted(reached)


@cache
def code_of(source: str) -> str:
    """The tokens of a program, without comments, docstrings and layout."""
    lines, docstrings = source.splitlines(keepends=True), _docstrings(source)
    found: list[str] = []
    depth, start = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _OPENS:
            start, depth = (token.start, depth + 1) if not depth else (start, depth + 1)
        elif token.type in _CLOSES:
            depth -= 1
            if not depth:
                found.append(_between(lines, start, token.end))
        elif not depth and token.type not in _LEFT_OUT and token.start not in docstrings:
            text = _NAMED.get(token.type, token.string)
            if text != "\n" or (found and found[-1] not in ("\n", "{")):  # not the end of a docstring's line
                found.append(text)
    return " ".join(found)


def _docstrings(source: str) -> set[tuple[int, int]]:
    """Where the docstrings begin: line and column."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.add((first.lineno, first.col_offset))
    return found


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    return "".join([lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])


@cache
def _imports(source: str) -> frozenset[str]:
    """The modules of headatlas.stimuli that code names, without the package itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == _STIMULI:
            found |= {alias.name if _path(alias.name).is_file() else "prompts" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{_STIMULI}."):
            found.add(node.module.removeprefix(f"{_STIMULI}."))
    return frozenset(found)


def _path(name: str) -> Path:
    return Path(stimuli.__file__).parent / f"{name}.py"
