"""Opening by hub id, against a stand-in for the hub on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hub

Tiny = Callable[[str], Path]


def run(address: str, model: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`headatlas run` in a process of its own, with the hub at the given address."""
    settings = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "headatlas", "run", "successor", "--json", "--model", model]
    return subprocess.run(
        [*command, "--out", str(home / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        timeout=120,
    )


def test_a_hub_id_is_downloaded_pinned_and_recorded(tiny: Tiny, tmp_path: Path) -> None:
    with hub.serving(tiny("llama"), "someone/tiny-llama") as address:
        done = run(address, "someone/tiny-llama", tmp_path)
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    assert (model["name"], model["revision"]) == ("someone/tiny-llama", hub.COMMIT)
    assert (tmp_path / "out" / "someone--tiny-llama" / "successor.json").is_file()


@pytest.mark.slow
def test_a_repository_that_is_not_there_is_one_line(tiny: Tiny, tmp_path: Path) -> None:
    with hub.serving(tiny("llama"), "someone/tiny-llama") as address:
        done = run(address, "someone/else", tmp_path)
    assert done.returncode == 2
    assert "the hub has no model 'someone/else'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_no_network_is_one_line(tmp_path: Path) -> None:
    done = run("http://127.0.0.1:9", "someone/tiny-llama", tmp_path)
    assert done.returncode == 2
    assert "could not be downloaded" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_download_that_breaks_off_is_one_line_and_no_record(tiny: Tiny, tmp_path: Path) -> None:
    with hub.serving(tiny("llama"), "someone/tiny-llama", cut=5000) as address:
        done = run(address, "someone/tiny-llama", tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stderr.rstrip().splitlines()[-1].startswith("headatlas: ")
    assert not list((tmp_path / "out").rglob("*.json"))
