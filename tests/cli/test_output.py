"""Output in every encoding, on full and closed streams: no traceback, and never exit code 1, which is a verdict."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headatlas
from headatlas import HeadatlasError
from headatlas.cli.commands import catalog as commands
from headatlas.cli.commands import mistakes, output, streams
from headatlas.cli.program import main

ENCODINGS = ("ascii", "cp1252", "latin-1", "cp437", "utf-16", "shift_jis")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, bytes, str]]:
    """Run a command here, with standard output and error of some encoding; a process of its own would take longer."""

    def once(*words: str, encoding: str = "utf-8") -> tuple[int, bytes, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        out.flush()
        err.flush()
        monkeypatch.undo()
        return code, out.buffer.getvalue(), err.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    return once


@pytest.mark.parametrize("encoding", ENCODINGS)
class TestEncodings:
    @pytest.mark.parametrize(
        "words, sign",
        [
            (["list"], "induction"),
            (["show", "induction"], "Induction head"),
            (["search", "needle"], "retrieval"),
            pytest.param(["who", "gpt2", "L10H7"], "Negative name mover", marks=pytest.mark.slow),
            (["cite", "induction", "--format", "text"], "Olsson"),
            pytest.param(["results", "--model", "specimen"], "specimen", marks=pytest.mark.slow),
            pytest.param(["specimen"], "specimen", marks=pytest.mark.slow),
            pytest.param(["method"], "logit-lens", marks=pytest.mark.slow),
            pytest.param(["compare", "specimen", "specimen-llama-0"], "induction", marks=pytest.mark.slow),
            (["--help"], "usage"),
            (["show", "--help"], "usage"),
            pytest.param(["validate"], "catalog is valid", marks=pytest.mark.slow),
        ],
    )
    def test_people_get_near_signs(self, run: Callable[..., Any], encoding: str, words: list[str], sign: str) -> None:
        code, out, err = run(*words, encoding=encoding)
        assert code == 0 and sign in out.decode(encoding) and "Traceback" not in err

    def test_mistakes_are_told(self, run: Callable[..., Any], encoding: str) -> None:
        code, _, err = run("show", "…→ nothing \udcff", encoding=encoding)
        assert code == 2 and "no head type is called" in err and err.count("\n") == 1

    def test_json_loses_nothing(self, run: Callable[..., Any], encoding: str) -> None:
        code, out, _ = run("show", "induction", "--json", encoding=encoding)
        whole = headatlas.load().heads["induction"].model_dump(mode="json")
        assert code == 0 and json.loads(out.decode(encoding)) == whole and "→" in whole["signature"]
        code, out, _ = run("export", "--format", "jsonl", "--of", "heads", encoding=encoding)
        rows = [json.loads(line) for line in out.decode(encoding).splitlines()]
        assert code == 0 and rows == headatlas.load().heads.rows()

    def test_tables_and_citations_are_utf_8_wherever_they_go(
        self, run: Callable[..., Any], encoding: str, tmp_path: Path
    ) -> None:
        for words in (["export", "--format", "csv"], ["export", "--format", "bibtex"]):
            code, out, _ = run(*words, encoding=encoding)
            assert code == 0 and run(*words, "--out", str(tmp_path / "file"))[0] == 0
            assert out == (tmp_path / "file").read_bytes()
        code, out, _ = run("export", "--format", "csv", encoding=encoding)
        table = list(csv.DictReader(io.StringIO(out.decode("utf-8"), newline="")))
        assert [row["statement"] for row in table] == [each.statement for _, each in headatlas.load().findings()]
        assert not all(row["statement"].isascii() for row in table)


@pytest.mark.parametrize(
    "text, ascii",
    [
        ("[A][B] … [A] → [B]", "[A][B] ... [A] -> [B]"),
        ("Müller, Ångström, Łukasz", "Muller, Angstrom, Lukasz"),
        ("i − 1 ≥ 0 × “x”", 'i - 1 >= 0 x "x"'),
        ("文\udcff", "\\u6587\\udcff"),
    ],
)
def test_the_nearest_signs(text: str, ascii: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    streams.prepare()
    print(text, end="", flush=True)
    assert out.buffer.getvalue().decode() == ascii  # type: ignore[attr-defined]


def test_names_that_are_not_utf_8_are_valid_json(run: Callable[..., Any]) -> None:
    code, out, err = run("validate", "--catalog", "\udcff", "--json")
    assert code == 2 and "is not a folder" in err and not out
    monkey = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    before, sys.stdout = sys.stdout, monkey
    try:
        output.print_json({"file": "\udcff", "sign": "→"})
        sys.stdout.flush()
    finally:
        sys.stdout = before
    assert json.loads(monkey.buffer.getvalue()) == {"file": "\udcff", "sign": "→"}  # type: ignore[attr-defined]


class TestMistakes:
    @pytest.mark.parametrize(
        "error, said",
        [
            (TypeError("a\nb"), "a bug in headatlas (TypeError: a b); put HEADATLAS_DEBUG=1 before the command"),
            (RecursionError("deep"), "a bug in headatlas (RecursionError: deep)"),
            (MemoryError(), "not enough memory"),
            (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device; check the disk"),
            (PermissionError(13, "Permission denied"), "Permission denied; check the disk"),
            (ModuleNotFoundError("No module named 'torch'"), "a package is missing (No module named 'torch')"),
            (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "no"), "a name is not UTF-8 text (a\\udcff)"),
            (HeadatlasError("one line"), "one line"),
            (KeyboardInterrupt(), "interrupted; finished files are kept"),
        ],
    )
    def test_one_line_and_exit_code_2(
        self, run: Callable[..., Any], error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def command(_: object) -> int:
            raise error

        for debug in ("", "1"):
            monkeypatch.setattr(commands, "list_heads", command)
            monkeypatch.setenv(mistakes.DEBUG, debug)
            code, _, err = run("list")
            expected = bool(debug) and not isinstance(error, HeadatlasError | KeyboardInterrupt)
            assert code == 2 and f"headatlas: {said}" in err and ("Traceback" in err) == expected
            assert expected or err.count("\n") == 1

    def test_exit_code_1_is_a_verdict_only(self, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(commands, "list_heads", lambda _: 1 / 0)
        assert run("list")[0] == 2


def _shell(line: str) -> "subprocess.CompletedProcess[str]":
    """A command line in a shell of its own, where headatlas is `$H`."""
    env = os.environ | {"H": f"{sys.executable} -m headatlas"}
    env.pop("PYTHONUNBUFFERED", None)
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env, timeout=120)


@pytest.mark.parametrize(
    "line, code, said",
    [
        ("$H list >/dev/full", 2, "No space left on device"),
        ("$H export >/dev/full", 2, "No space left on device"),
        ("$H --help >/dev/full", 2, "No space left on device"),
        ("$H list >&-", 0, ""),
        ("$H show nothing 2>&-", 2, ""),
        ("$H show nothing 2>/dev/full", 2, ""),
        ("$H export | head -c 10 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("$H list | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $H show induction >/dev/null", 0, ""),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $H show …→é", 2, "no head type is called"),
        ("PYTHONIOENCODING=cp1252 $H specimen >/dev/null", 0, ""),
    ],
)
def test_streams_that_take_nothing_or_little(line: str, code: int, said: str) -> None:
    ended = _shell(line)
    assert ended.returncode == code and said in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    assert ended.stderr.count("\n") == (1 if said else 0), ended.stderr
