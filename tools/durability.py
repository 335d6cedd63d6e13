"""Kills headatlas at random moments, fills its disk, and removes its home: no finished record may be lost or damaged.

    python tools/durability.py kill [--count 50] [--seed 0]     kill -9 `run --all` and `census` in turn, then continue
    python tools/durability.py disk                             a disk of 64 to 512 KiB (as root), else a limit per file
    python tools/durability.py home                             every command without a home that can be written

`kill` runs a few light findings on the specimen with one process and kills the process at a random moment. After every
kill it checks that finished files are unchanged and that every file is complete; in the end, that the numbers equal
those of an uninterrupted run. Exit code 1 if a check fails.

This module is long because it is one program with three experiments.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TYPES = ("previous-token", "duplicate-token", "induction")
# headatlas with a catalog of these alone, and with rules that ask for few prompts, so that `--all` takes seconds.
FEW = f"""
import dataclasses, sys, headatlas
from headatlas.catalog.collections import HeadTypes
def light(entry):
    rule = entry.rule.model_copy(update=dict(find=8, test=8))
    return entry.model_copy(update=dict(reproduction=entry.reproduction.model_copy(update=dict(rule=rule))))
whole = headatlas.load()
few = dataclasses.replace(whole, heads=HeadTypes(light(whole.heads[id]) for id in {TYPES}))
headatlas.load = lambda folder=None: few
from headatlas.evidence import statistics
statistics.RANDOM_SETS = 24
from headatlas.cli.program import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-m", "headatlas"]
RUN = ["run", "--all", "--model", "specimen"]
CENSUS = ["census", "specimen", "--prompts", "2", "--no-cause", "--jobs", "1"]


class BrokenError(Exception):
    """A check failed."""


def started(words: list[str], **how: Any) -> "subprocess.Popen[str]":
    """Start a command in its own process group, so that its workers end with it."""
    usual: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    usual["env"] = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    few = words[0] in ("run", "census") and words[1] in ("--all", "specimen") and "--dry-run" not in words
    command = [sys.executable, "-c", FEW] if few else COMMAND
    return subprocess.Popen([*command, *words], text=True, **(usual | how))


def ended(words: list[str], **how: Any) -> tuple[int, str]:
    """Run a command to its end; returns exit code and standard error."""
    process = started(words, **how)
    _, error = process.communicate(timeout=900)
    return process.returncode, error


def numbers(path: Path) -> Any:
    """The content of a JSON file without its times."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items() if key not in ("environment", "work", "summary")}
        return [plain(part) for part in value] if isinstance(value, list) else value

    return plain(json.loads(path.read_bytes()))


def whole(folder: Path) -> dict[str, bytes]:
    """The visible files of a folder.

    Raises:
        BrokenError: if a file is not JSON.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[str(path.relative_to(folder))] = raw = path.read_bytes()
            if path.suffix == ".json":
                try:
                    json.loads(raw)
                except ValueError as error:
                    raise BrokenError(f"{path} is half-written ({error})") from None
    return found


def same_numbers(folder: Path, expected: Path) -> None:
    """Check that two folders have the same files with the same numbers."""
    names = [str(path.relative_to(expected)) for path in sorted(expected.rglob("*.json"))]
    if names != [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.json"))]:
        raise BrokenError(f"{folder} does not hold the files of a run that nobody stopped")
    for name in names:
        if numbers(folder / name) != numbers(expected / name):
            raise BrokenError(f"{name} has other numbers than in a run that nobody stopped")


def kill(count: int, seed: int, folder: Path, commands: dict[str, list[str]]) -> Iterator[str]:
    """Kill commands at random moments, and report the files after each kill.

    Each command continues after a kill until it ends by itself; then it starts again from nothing.
    """
    rng = random.Random(seed)
    expected: dict[str, Path] = {}
    length: dict[str, float] = {}
    for name, words in commands.items():
        begun = time.monotonic()
        code, error = ended([*words, "--out", str(folder / f"{name}-expected")])
        if code not in (0, 1):
            raise BrokenError(f"{name} ended with {code}: {error}")
        expected[name], length[name] = folder / f"{name}-expected", time.monotonic() - begun
        whole(expected[name])
    for number in range(count):
        name = list(commands)[number % len(commands)]
        out = folder / name
        if rng.random() < 0.3:
            shutil.rmtree(out, ignore_errors=True)
        before = whole(out) if out.is_dir() else {}
        process = started([*commands[name], "--out", str(out)], stderr=subprocess.DEVNULL)
        moment = rng.uniform(0.05, 1.1) * length[name]
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        after = whole(out) if out.is_dir() else {}
        lost = sorted(set(before) - set(after))
        if lost:
            raise BrokenError(f"{lost} were there before the kill")
        how = "killed" if process.returncode < 0 else f"ended with {process.returncode}"
        yield f"{number + 1}: {name} {how} after {moment:.1f} s; {len(after)} files, all whole"
    for name, words in commands.items():
        code, error = ended([*words, "--out", str(folder / name)])
        if code not in (0, 1):
            raise BrokenError(f"{name} did not go on: {code}: {error}")
        same_numbers(folder / name, expected[name])
        yield f"{name} went on to the end with the numbers of a run that nobody stopped"


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Callable[[], None] | None]:
    """As root, mount a small disk at `place` (size in KiB); otherwise return a limit on file sizes for a process."""
    place.mkdir(parents=True, exist_ok=True)
    size = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if os.geteuid() == 0 and subprocess.run(size, capture_output=True).returncode == 0:
        try:
            yield None
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        return

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024 // 16,) * 2)

    yield limited


def disk(folder: Path, commands: dict[str, list[str]], sizes: tuple[int, ...] = (64, 128, 256, 512)) -> Iterator[str]:
    """Run commands on disks that fill up at different moments."""
    for number, kilobytes in enumerate(sizes):
        for name, words in commands.items():
            place = folder / f"disk-{number}-{name}"
            with small_disk(place, kilobytes) as limited:
                filler = place / "filler"
                if limited is None:  # what is free is little more than nothing
                    filler.write_bytes(b"x" * (kilobytes * 1024 - (8 << number) * 1024))
                code, error = ended([*words, "--out", str(place / "out")], preexec_fn=limited)
                lines = [line for line in error.splitlines() if line.startswith("headatlas: ")]
                files = whole(place / "out") if (place / "out").is_dir() else {}
                full = code == 2 and len(lines) == 1 and "cannot write" in lines[0] and "Traceback" not in error
                if not (full or code in (0, 1)):
                    raise BrokenError(f"{name} on a disk of {kilobytes} KiB ended with {code}: {error}")
                said = lines[0] if lines else "it fitted"
                yield f"{name}, {kilobytes} KiB: exit code {code}, {len(files)} files, all whole; {said[:90]}"


LIGHT = (
    ["list"], ["show", "induction"], ["search", "needle"], ["who", "gpt2", "L10H7"], ["cite", "induction"], ["export"],
    ["results"], ["validate"], ["specimen"], ["method"], ["compare", "specimen", "specimen-llama-0"],
    ["heads", "specimen", "--type", "induction"], ["report", "report.html"], ["doctor", "specimen"],
    ["run", "successor"], ["census", "specimen", "--dry-run"], ["census", "specimen"], ["doctor", "nobody/nothing"],
    ["collaborate", "specimen"], ["new", "some-head", "--catalog", "/"], ["models"], ["fetch", "smollm2-135m-instruct"],
)  # fmt: skip


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A folder that nobody can write to; for root, a read-only mount."""
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:
        place.chmod(0o555)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.chmod(0o755)


def home(folder: Path, commands: tuple[list[str], ...] = LIGHT) -> Iterator[str]:
    """Run commands with a read-only home, cache and working directory."""
    away = {name: str(folder / "home") for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    with read_only(folder):
        try:
            (folder / "file").touch()
        except OSError:
            pass
        else:
            raise BrokenError("this user may write everywhere, and may not mount a disk: nothing is tried")
        for words in commands:
            code, error = ended(words, cwd=folder, env=os.environ | away | {"HF_HUB_OFFLINE": "0"})
            lines = error.splitlines()
            told = any(line.startswith("headatlas: ") for line in lines)
            if code not in (0, 1, 2) or "Traceback" in error or (code == 2) != told:
                raise BrokenError(f"{' '.join(words)} ended with {code}: {error}")
            yield f"{' '.join(words)}: exit code {code}{'; ' + lines[-1][:150] if lines else ''}"


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three trials."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("kill", "disk", "home"))
    parser.add_argument("--count", type=int, default=50, help="how many times to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="headatlas-durability-") as made:
        folder = Path(made)
        commands = {"run": RUN, "census": CENSUS}
        tries = {
            "kill": lambda: kill(options.count, options.seed, folder, commands),
            "disk": lambda: disk(folder, commands),
            "home": lambda: home(folder),
        }
        try:
            for line in tries[options.what]():
                print(line, flush=True)
        except BrokenError as error:
            print(f"check failed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
