"""Commands on GGUF files: what they print and write, and one line for a file that cannot be read."""

import json
import shutil
from pathlib import Path

import pytest

import gguf_files
from conftest import save_tiny
from headatlas import HeadatlasError
from headatlas.census import parallel
from headatlas.cli.program import main


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path_factory.getbasetemp() / "gguf-cache"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return gguf_files.write(folder / "Tiny.Q8_0.gguf", save_tiny("llama", folder / "whole"), "Q8_0")


def test_doctor(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["safe"] and {"name": "files", "verdict": "pass"}.items() <= said["checks"][-1].items()
    assert main(["doctor", str(file), "--dtype", "bfloat16"]) == 0


def test_run_writes_records_under_the_name_of_the_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "successor", "--model", str(file), "--out", str(tmp_path)]) in (0, 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "on Tiny (Q8_0)" in shown and "opened from Tiny.Q8_0.gguf, dequantised to float32" in shown
    model = json.loads((tmp_path / "Tiny-Q8_0" / "successor.json").read_text())["model"]
    assert (model["name"], model["dequantised"]["quantisation"]) == ("Tiny (Q8_0)", "Q8_0")
    assert model["sha256"] == model["dequantised"]["sha256"] == model["identity"]["files"]["Tiny.Q8_0.gguf"]


def test_heads_finds_the_census_of_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c"
    few = ["--types", "previous-token", "--prompts", "2", "--no-cause", "--jobs", "1"]
    assert main(["census", str(file), *few, "--out", str(out)]) == 0
    assert (out / "Tiny-Q8_0" / "census.json").is_file()

    def anew(*_: object) -> None:
        raise HeadatlasError("taken anew")

    monkeypatch.setattr(parallel, "run_census", anew)
    words = ["--type", "previous-token", "--census", str(out), "--json"]
    (tmp_path / "folder").mkdir()
    other = Path(shutil.copy(file, tmp_path / "folder" / "Tiny.gguf"))
    for same in (file, other):
        assert main(["heads", str(same), *words]) == 0, capsys.readouterr().err
    shutil.rmtree(tmp_path / "folder")
    changed = gguf_files.write(tmp_path / "Tiny.Q8_0.gguf", file.parent / "whole", "Q8_0", name="another")
    capsys.readouterr()
    assert main(["heads", str(changed), *words]) == 2
    assert "taken anew" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["doctor"], ["census"], ["run", "induction", "--model"]])
def test_a_file_that_is_cut_is_one_line(
    command: list[str], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-100])
    assert main([*command, "cut.gguf"]) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert [line for line in lines if line.startswith("headatlas: ")] == lines[-1:]
    assert "cut.gguf is cut short" in lines[-1]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["cut.gguf"]
