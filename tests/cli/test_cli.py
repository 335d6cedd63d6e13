"""The commands a user types, and each of their mistakes: one clear line, exit code 2, nothing half-written."""

import argparse
import csv
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import headatlas
import small_catalog
from conftest import load_tool
from headatlas import locations
from headatlas.catalog import bibliography
from headatlas.catalog.schema import CHECKED, HeadType
from headatlas.cli.commands import catalog as catalog_commands
from headatlas.cli.program import main, parser
from headatlas.cli.terminal import head_view
from headatlas.evidence import record_files
from places import ROOT

Capture = pytest.CaptureFixture[str]
CATALOG = headatlas.load()


def out(capsys: Capture, *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def rows(capsys: Capture, *words: str) -> list[dict]:
    return json.loads(out(capsys, *words, "--json"))


class TestList:
    def test_every_type_stands_where_the_survey_puts_it(self, capsys: Capture) -> None:
        listed = {row["id"]: (row["stage"], row["group"]) for row in rows(capsys, "list")}
        survey = CATALOG.taxonomy.survey_heads
        assert len(survey) == 41 and {id: listed.get(id) for id in survey} == survey

    def test_what_a_person_sees(self, capsys: Capture) -> None:
        text = out(capsys, "list")
        assert "induction" in text and "EP expression preparation" in text and "placed by headatlas" in text

    def test_filters(self, capsys: Capture) -> None:
        found = rows(capsys, "list", "--stage", "EP", "--group", "information-aggregation")
        assert "mixed" in [row["id"] for row in found] and {row["stage"] for row in found} == {"expression-preparation"}
        assert all("gpt2" in row["models"].split("; ") for row in rows(capsys, "list", "--model", "gpt2"))
        assert {row["placed_by"] for row in rows(capsys, "list", "--placed-by", "headatlas")} == {"headatlas"}
        assert rows(capsys, "list", "--text", "needle in a haystack")[0]["id"] == "retrieval"
        contested, status = rows(capsys, "list", "--status", "contested"), "contested"
        assert contested and {row["status"] for row in contested} == {status}
        for option in ("method", "benchmark", "circuit"):
            value = {"method": "scoring", "benchmark": "ioi", "circuit": "ioi"}[option]
            assert all(value in row[f"{option}s"].split("; ") for row in rows(capsys, "list", f"--{option}", value))

    def test_conditions_that_nothing_meets(self, capsys: Capture) -> None:
        words = ("list", "--stage", "KR", "--group", "signal-amplification")
        assert "no head type meets all these conditions" in out(capsys, *words)
        assert rows(capsys, *words) == []


class TestShow:
    def test_an_entry_with_a_reproduction(self, capsys: Capture) -> None:
        text = out(capsys, "show", "Successor heads", "--all")
        assert "Expected before the run" in text and "What papers report" in text
        assert json.loads(out(capsys, "show", "successor", "--json"))["id"] == "successor"

    def test_an_entry_without_one(self, capsys: Capture) -> None:
        text = " ".join(out(capsys, "show", "rebinding", "--all").split())
        assert "no reproduction yet" in text and "A rerun needs" in text and "not in the survey" in text

    def test_a_value_has_its_bound_and_total_and_a_source_its_badge(self, capsys: Capture) -> None:
        head = CATALOG.heads["previous-token"]
        more = {"metric": "m", "value": 4.0, "unit": "heads", "of": 10, "bound": "at least", "checked": "abstract"}
        head_view.print_full(
            CATALOG, head.model_copy(update={"findings": (head.findings[0].model_copy(update=more),)}), []
        )
        text = " ".join(capsys.readouterr().out.split())
        assert "at least" in text and "4 of 10" in text and f"abstract: {CHECKED['abstract']}" in text

    @pytest.mark.parametrize("head", CATALOG.heads.values(), ids=list(CATALOG.heads))
    def test_every_entry_can_be_shown(self, capsys: Capture, head: HeadType) -> None:
        for show in (head_view.print_short, head_view.print_full):
            show(CATALOG, head, [])
            text = " ".join(capsys.readouterr().out.split())
            assert head.name in text and " ".join(head.definition.split()) in text


def test_search(capsys: Capture) -> None:
    text = out(capsys, "search", "needle", "in", "a", "haystack")
    assert text.startswith("retrieval\t")
    found = rows(capsys, "search", "indcution")
    assert found[0]["id"] == "induction" and set(found[0]) == {"id", "score", "where", "text", "matches"}
    assert "nothing matches" in out(capsys, "search", "qqqqqqq")


def test_who(capsys: Capture) -> None:
    text = out(capsys, "who", "gpt2", "10.7")
    assert "Negative name mover" in text and "Copy suppression" in text
    assert "Wang et al. 2023" in text and "McDougall et al. 2024" in text
    said = json.loads(out(capsys, "who", "openai-community/gpt2", "L10H7", "--json"))
    named = {each["type"]: each for each in said["reported"]}
    assert "wang2023interpretability" in named["negative-name-mover"]["sources"]
    assert "mcdougall2024copy" in named["copy-suppression"]["sources"]
    assert "no finding in the catalog names it" in out(capsys, "who", "gpt2", "L0H11")


def test_cite(capsys: Capture) -> None:
    text = out(capsys, "cite", "induction")
    assert text.startswith("@") and "olsson2022incontext" in text
    assert "Olsson" in out(capsys, "cite", "olsson2022incontext", "--format", "text")
    assert [row["key"] for row in rows(capsys, "cite", "olsson2022incontext")] == ["olsson2022incontext"]


class TestExport:
    def test_json_has_everything(self, capsys: Capture) -> None:
        whole = json.loads(out(capsys, "export"))
        assert [head["id"] for head in whole["heads"]] == list(CATALOG.heads)
        assert {"methods", "benchmarks", "circuits", "models", "errata", "glossary", "references"} <= set(whole)
        assert out(capsys, "export", "--json") == out(capsys, "export", "--format", "json")

    def test_what_is_exported_is_what_is_loaded(self, capsys: Capture) -> None:
        whole = json.loads(out(capsys, "export"))
        for head in whole["heads"]:
            assert head.pop("status") == CATALOG.heads[head["id"]].status  # computed, so that no file has it
            assert HeadType.model_validate_json(json.dumps(head)) == CATALOG.heads[head["id"]]

    @pytest.mark.parametrize("of", ["findings", "heads"])
    def test_rows(self, capsys: Capture, of: str) -> None:
        count = len(CATALOG.findings() if of == "findings" else CATALOG.heads)
        table = list(csv.DictReader(io.StringIO(out(capsys, "export", "--format", "csv", "--of", of), newline="")))
        lines = [json.loads(line) for line in out(capsys, "export", "--format", "jsonl", "--of", of).splitlines()]
        assert len(table) == len(lines) == count and set(table[0]) == set(lines[0])

    def test_bibtex_to_a_file(self, tmp_path: Path, capsys: Capture) -> None:
        assert out(capsys, "export", "--format", "bibtex", "--out", str(tmp_path / "all.bib")) == ""
        references, problems = bibliography.read(tmp_path / "all.bib")
        assert not problems and set(references) == set(CATALOG.references)


class TestNew:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return small_catalog.write(tmp_path / "catalog")

    def test_says_what_is_left_to_write_and_then_is_valid(self, folder: Path, capsys: Capture) -> None:
        assert "headatlas check quotation-mark" in out(capsys, "new", "quotation-mark", "--catalog", str(folder))
        path, script = folder / "heads" / "quotation-mark.yaml", folder.parent / "reproductions" / "quotation-mark.py"
        script.unlink()
        assert main(["validate", "--catalog", str(folder)]) == 2
        problems = capsys.readouterr().err.splitlines()[1:]
        assert all("still contains TODO" in line or "no BibTeX entry 'todo2026source'" in line for line in problems)
        assert len(problems) >= 8
        path.write_text(path.read_text().replace("TODO", "Written").replace("todo2026source", "lee2024heads"))
        assert main(["validate", "--catalog", str(folder)]) == 0

    @pytest.mark.parametrize(
        "id, complaint",
        [
            ("induction", "already exists"),
            ("Quotation", "is not an id"),
            ("../escape", "is not an id"),
            ("a" * 61, "is not an id"),
        ],
    )
    def test_refuses(self, folder: Path, id: str, complaint: str, capsys: Capture) -> None:
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert main(["new", id, "--catalog", str(folder)]) == 2
        assert complaint in capsys.readouterr().err
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_validate(capsys: Capture) -> None:
    assert "catalog is valid: " in out(capsys, "validate") and rows(capsys, "validate") == []


def _commands() -> dict[str, argparse.ArgumentParser]:
    action = next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("name", _commands())
class TestEveryCommand:
    def test_has_json_and_an_example_that_parses(self, name: str) -> None:
        command = _commands()[name]
        assert any("--json" in action.option_strings for action in command._actions)
        example = (command.epilog or "").removeprefix("example: ")
        words = shlex.split(example.split(" > ")[0])
        assert words[:2] == ["headatlas", name] and parser().parse_args(words[1:])

    def test_is_in_the_docs_with_all_its_options(self, name: str) -> None:
        docs = (ROOT / "site" / "commands.md").read_text()
        sections = {part.split("\n", 1)[0].strip("` "): part for part in docs.split("\n## ")[1:]}
        assert set(sections) >= {name}, f"site/commands.md has no section on {name}"
        assert f"headatlas {name}" in sections[name]
        for action in _commands()[name]._actions:
            for option in action.option_strings:
                if option.startswith("--") and option not in ("--help", "--json"):
                    assert f"`{option}" in sections[name], f"site/commands.md does not say what {name} {option} does"


def test_the_readme_counts_right() -> None:
    tool = load_tool("readme_counts")
    numbers = tool.counts(CATALOG, record_files.read_all(locations.records()))
    text = tool.README.read_text()
    assert tool.counted(text, numbers) == text, "run: make readme"
    assert tool.counted(text, dict.fromkeys(numbers, 7)) != text


def test_the_docs_have_no_command_that_is_not_there() -> None:
    docs = (ROOT / "site" / "commands.md").read_text()
    assert {part.split("\n", 1)[0].strip("` ") for part in docs.split("\n## ")[1:]} == set(_commands())


def test_run_prints_the_verdict_and_writes_the_record(tmp_path: Path, capsys: Capture) -> None:
    assert main(["run", "successor", "--out", str(tmp_path)]) in (0, 1)
    record = record_files.read(tmp_path / "specimen" / "successor.json")
    text = capsys.readouterr().out
    assert record.verdict.label in text and "by prompt family" in text
    assert main(["run", "successor", "--out", str(tmp_path), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["verdict"]["label"] == record.verdict.label


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["show", "inductoin"], "did you mean induction"),
        (["list", "--stage", "XX"], "no stage is called 'XX'"),
        (["list", "--model", "gpt-2000"], "no finding names a model 'gpt-2000'"),
        (["who", "gpt2", "L12H0"], "L12H0 is not a head of gpt2, which has 12 layers of 12 heads"),
        (["who", "gpt2", "nobody"], "'nobody' is not a head; write it as L<layer>H<head>"),
        (["who", "gtp2", "L1H1"], "did you mean gpt2"),
        (["cite", "nobody2020none"], "no head type is called 'nobody2020none'"),
        (["export", "--out", "/no/such/folder/file.json"], "cannot write /no/such/folder/file.json"),
        (["new", "Wrong Id"], "is not an id"),
        (["run", "rebinding"], "no reproduction yet for rebinding"),
        (["run", "nope"], "no head type is called 'nope'"),
        (["run", "sucessor"], "did you mean successor?"),
        (["run"], "give the ids to run, or --all"),
        (["run", "induction", "--all"], "give the ids to run, or --all"),
        (["run", "induction", "--model", "./no-such-folder"], "is not a folder"),
        (["validate", "--catalog", "/no/such/folder"], "is not a folder"),
    ],
)
def test_mistakes(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_folder_that_is_no_model_leaves_nothing_behind(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert main(["run", "induction", "--model", str(tmp_path / "empty"), "--out", str(out)]) == 2
    assert "without config.json" in capsys.readouterr().err
    assert list(out.rglob("*.json")) == []


def test_an_out_that_cannot_be_written_is_said_before_the_run(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "induction", "--out", str(tmp_path / "file")]) == 2
    assert "--out" in capsys.readouterr().err


def test_validate_reports_every_problem_on_its_own_line(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "catalog"
    shutil.copytree(locations.catalog(), folder)
    for name in ("induction", "successor"):
        path = folder / "heads" / f"{name}.yaml"
        path.write_text(path.read_text() + "colour: blue\n")
    assert main(["validate", "--catalog", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "heads/induction.yaml: colour: unknown field" in error
    assert "heads/successor.yaml: colour: unknown field" in error
    assert main(["validate", "--catalog", str(folder), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)) >= 2


def test_a_truncated_model_is_one_line(tiny: Callable[[str], Path], tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny("llama"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    assert main(["run", "induction", "--model", str(folder), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "model.safetensors of" in error and "is cut short" in error and "Traceback" not in error


def test_ctrl_c_keeps_what_is_written_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headatlas", "run", "successor", "induction", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a shell ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    first = tmp_path / "specimen" / "successor.json"
    deadline = time.monotonic() + 120
    while not first.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2, error
    assert f"interrupted; 1 of 2 records is written, in {first.parent}" in error and error.count("\n") == 1
    assert record_files.read(first)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["successor.json"]


def test_an_interrupt_in_a_destructor_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def command(_: object) -> int:
        Slow()
        for _ in range(50):
            time.sleep(0.1)
        return 0

    monkeypatch.setattr(catalog_commands, "list_heads", command)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start the tests with it ignored
    try:
        assert main(["list"]) == 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_wait_asleep_unless_the_user_says_otherwise(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    out(capsys, "list")
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    out(capsys, "list")
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    out(capsys, "list")
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
