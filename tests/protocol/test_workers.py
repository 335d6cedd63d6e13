"""Worker processes: they end with the process that started them, report to it, and share one copy of the weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headatlas.protocol import provenance
from headatlas.protocol.shared_model import place_to_hand_over
from headatlas.protocol.workers import WorkerProgress

POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from headatlas.protocol.workers import start_as_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=start_as_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().split()[2] != "Z"


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for _ in range(100):
        if not alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker goes on without its parent")


BUSY = """
import os, time
from headatlas.progress import RunProgress
from headatlas.protocol.model_options import ModelOptions
from headatlas.protocol.workers import pool

if __name__ == "__main__":
    with pool(1, "specimen", ModelOptions(), RunProgress()) as workers:
        print(workers.executor.submit(os.getpid).result(), flush=True)
        workers.executor.submit(time.sleep, 60).result()
"""


def test_an_interrupted_parent_does_not_wait_for_its_workers(tmp_path) -> None:
    """Ctrl-C in a terminal reaches all of them; a signal to the parent alone must end them too."""
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.send_signal(signal.SIGINT)
        _, error = parent.communicate(timeout=30)
    assert error.rstrip().endswith("KeyboardInterrupt") and not alive(worker)


def test_the_process_that_starts_workers_needs_no_torch() -> None:
    code = "import sys, headatlas.protocol.run_many, headatlas.census.parallel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_worker_reports_a_step_when_it_begins_and_ends_and_now_and_then() -> None:
    sent: list[tuple[str, str, int, int]] = []
    now = 0.0
    report = WorkerProgress(sent.append, lambda: now)
    for number in range(101):
        now = number / 100
        report.step("a", "scores", number, 100)
    report.step("a", "interventions", 0, 9)
    report.step("b", "interventions", 0, 9)
    assert sent[0] == ("a", "scores", 0, 100) and ("a", "scores", 100, 100) in sent
    assert sent[-2:] == [("a", "interventions", 0, 9), ("b", "interventions", 0, 9)]
    assert 5 <= len(sent) <= 8


@pytest.mark.parametrize("memory", [True, False])
def test_a_model_is_handed_over_in_memory_or_on_disk(memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with place_to_hand_over() as place:
        Path(place).write_bytes(b"weights")
        other = [sys.executable, "-c", f"print(open({place!r}).read())"]
        assert subprocess.run(other, capture_output=True, text=True, check=True).stdout == "weights\n"
        assert Path(place).name.endswith(".model") or memory
    assert not Path(place).exists()
    with pytest.raises(OSError, match="disk"), place_to_hand_over():
        raise OSError("disk")  # what goes wrong meanwhile is not hidden


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system cannot forget a peak of memory")
def test_the_peak_of_memory_is_that_of_one_finding() -> None:
    provenance.forget_peak_memory()
    before = provenance.peak_memory_mb()
    block = np.ones(2**25)
    assert provenance.peak_memory_mb() > before + 200
    del block
    provenance.forget_peak_memory()
    assert provenance.peak_memory_mb() < before + 100
