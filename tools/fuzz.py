"""Feeds headatlas damaged inputs and looks for tracebacks, wrong exit codes, crashes and endless runs.

Inputs are damaged configs, tokenizers, weights, entries, bibliographies, records, censuses and command lines. The seed
and the number of an input determine it. Inputs run in a worker process, which restarts after a crash of native code.

    python tools/fuzz.py [--count 10000] [--seed 0] [--start 0] [--kinds config weights]

Prints the outcomes per kind of input, and each fault with the command that repeats it. Exit code 1 if there is a fault.
"""

import argparse
import collections
import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MEMORY = 12 * 2**30  # bytes of addresses: a model of a billion columns must not be tried
SECONDS = 120.0  # for one input; the machine may be busy


class Worker:
    """A worker process that runs inputs by number and reports each outcome."""

    def __init__(self, options: argparse.Namespace) -> None:
        words = [sys.executable, __file__, "--work", "--seed", str(options.seed), "--kinds", *(options.kinds or [])]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def outcome(self, number: int) -> dict[str, Any]:
        """The outcome of an input, or that the process crashed or hangs."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{number}\n".encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self.stop()
        how = f"died ({self._process.returncode})" if ready else "without end"
        return {"kind": "?", "ended": how, "fault": how, "dead": True}

    def stop(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def work(options: argparse.Namespace) -> None:
    """Read numbers from standard input, and report the outcome of each input."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="headatlas-fuzz-") as folder:
        import headatlas
        from fuzzing import kinds

        os.chdir(folder)
        whole = headatlas.load()
        headatlas.load = lambda place=None: whole  # type: ignore[assignment]  # reading it anew takes most of the time
        bench = kinds.Bench(Path(folder))
        for line in sys.stdin:
            kind = kinds.kind_of(int(line), options.kinds)
            ended, fault = kinds.made(bench, options.seed, int(line), kind)
            print(json.dumps({"kind": kind, "ended": ended, "fault": fault}), file=told)


def main(arguments: list[str] | None = None) -> int:
    """Run the inputs and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the number of the first input")
    parser.add_argument("--kinds", nargs="*", help="only these")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options)
        return 0
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    offenders, begun, worker = 0, time.monotonic(), Worker(options)
    from fuzzing import kinds

    for done, number in enumerate(range(options.start, options.start + options.count), 1):
        found = worker.outcome(number)
        kind = kinds.kind_of(number, options.kinds)
        counts[kind, found["ended"]] += 1
        if found["fault"]:
            offenders += 1
            only = f" --kinds {' '.join(options.kinds)}" if options.kinds else ""
            again = f"python tools/fuzz.py --count 1 --start {number} --seed {options.seed}{only}"
            print(f"{kind}: {found['fault']}\n    {again}", flush=True)
        if found.get("dead"):
            worker = Worker(options)
        if done % 500 == 0:
            print(f"{done} of {options.count} after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    worker.stop()
    for (kind, ended), count in sorted(counts.items()):
        print(f"{kind:<16}{ended:<14}{count:>7}")
    print(f"{sum(counts.values())} damaged inputs, {offenders} faults, {time.monotonic() - begun:.0f} s")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
