"""Whole files or none: killed, on a full disk, without a home. `tools/durability.py` tries the same at length."""

import os
import time
from pathlib import Path

import pytest

from conftest import load_tool
from headatlas import HeadatlasError
from headatlas.evidence import files, record_files

durability = load_tool("durability")
LIGHT = {"run": ["run", "--all", "--model", "specimen"]}


@pytest.mark.slow
def test_killed_runs_go_on(tmp_path: Path) -> None:
    lines = list(durability.kill(2, 3, tmp_path, LIGHT))
    assert len(lines) == 3 and "all whole" in lines[0]
    assert "went on to the end with the numbers of a run that nobody stopped" in lines[-1]


def test_half_a_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1')
    with pytest.raises(durability.BrokenError, match="half-written"):
        durability.whole(tmp_path)


def test_other_numbers_are_seen(tmp_path: Path) -> None:
    for name, text in (
        ("one", '{"a": 1, "environment": 1}'),
        ("same", '{"environment": 2, "a": 1}'),
        ("two", '{"a": 2}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.json").write_text(text)
    durability.same_numbers(tmp_path / "same", tmp_path / "one")
    with pytest.raises(durability.BrokenError, match="other numbers"):
        durability.same_numbers(tmp_path / "two", tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(durability.BrokenError, match="does not hold the files"):
        durability.same_numbers(tmp_path / "empty", tmp_path / "one")


@pytest.mark.slow
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    (line,) = durability.disk(tmp_path, LIGHT, (64,))
    assert "exit code 2" in line and "cannot write" in line


def test_without_a_home(tmp_path: Path) -> None:
    lines = list(durability.home(tmp_path, (["list"], ["report", "report.html"], ["run", "successor"])))
    assert [line.split("exit code ")[1][0] for line in lines] == ["0", "2", "2"]
    assert "give another folder with --out" in lines[2]


class TestWrite:
    def test_brings_the_file_and_then_its_name_to_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []
        sync, replace = os.fsync, Path.replace

        def synced(handle: int) -> None:
            done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112
            sync(handle)

        def replaced(path: Path, other: Path) -> Path:
            done.append("name")
            return replace(path, other)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", replaced)
        files.write(tmp_path / "x.json", "é\n")
        assert done == ["file", "name", "folder"] and (tmp_path / "x.json").read_bytes() == "é\n".encode()
        assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

    def test_leaves_what_was_there_where_it_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = files.write(tmp_path / "x.json", "old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(HeadatlasError, match=r"cannot write .*x.json \(No space left on device\); free space"):
            files.write(path, "new")
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]

    def test_removes_old_leftovers_and_no_young_ones(self, tmp_path: Path) -> None:
        old, young = (tmp_path / f".x.json.{name}{files._UNFINISHED}" for name in ("old", "young"))
        for path in (old, young):
            path.write_text("{")
        os.utime(old, (time.time() - 7200,) * 2)
        files.write(tmp_path / "y.json", "{}")
        assert not old.exists() and young.exists()

    def test_leftovers_are_not_read_as_records(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / f".x.json.abc{files._UNFINISHED}").write_text("{")
        assert record_files.paths_in(tmp_path) == []

    def test_a_link_stays_one_and_a_device_is_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "real")
        files.write(tmp_path / "link", "text")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "text"
        reading, writing = os.pipe()
        files.write(Path(f"/proc/self/fd/{writing}"), "text")
        assert os.read(reading, 10) == b"text"
        files.write(Path(os.devnull), "text")
        assert not Path(os.devnull).is_file()
        os.close(reading), os.close(writing)

    def test_names_that_are_not_utf_8(self, tmp_path: Path) -> None:
        with pytest.raises(HeadatlasError, match="not UTF-8 text"):
            files.write(tmp_path / "x", "a\udcff")
        assert list(tmp_path.iterdir()) == []
