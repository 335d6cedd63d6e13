"""Compares time and memory of headatlas, TransformerLens and plain transformers: one table, from one run.

All read the same random weights in GPT-2's shape (see tools/cross_check.py) and the same prompts, float32 on the CPU.
Every measurement is a fresh process that loads the model, runs once on a short prompt, and then repeats the work: at
least twice, and up to seven times within its share of time. Memory is the peak resident set during a repeat, minus the
memory of the process before it. All processes must compute the same numbers to 1e-4, or the program ends with 1.

Exact ablation of all 144 heads would take TransformerLens minutes per repeat. A loop of full passes costs the same for
every head, so one repeat runs one head and counts 144 times. headatlas skips the layers before a head. At all positions
it therefore runs a quarter of the heads of every layer and counts four times, its clean pass included. At the last
position it runs all heads. All ablations are zero ablations, measured as a logit difference at the last position.

Path patching of all heads to the logits (the direct effect of every head) uses 5,000 pairs of prompts of 16 tokens; the
program runs 64 pairs and scales the time. With MLPs recomputed, its floor is the matrix products of the MLPs that a
sender passes, at one position of each prompt; with MLPs frozen, the two runs from which path patching starts.

Each job has a floor: the time of the model's own passes alone. The program takes under 10 minutes on two idle cores. It
needs Linux, and no network.

    make bench                                  after tools/cross_check.py, in an environment with TransformerLens
    build/bench-venv/bin/python tools/bench.py [--small]        --small: 2 layers, short prompts, to try the program

This module is long because it is one program: contenders, measurements and table.
"""

import argparse
import ctypes
import gc
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table

import contenders
from contenders import SHARE, Positions, Prepare, Values
from cross_check import GPT2, SMALL, TOLERANCE, Shape, draw_prompts, save_model

SECONDS = 10.0  # of repeats, per measurement
FEWEST, MOST = 2, 7
PAIRS, ROUND = 5000, 64  # of path patching: in all, and at once
MINUTES = 3  # in which they should be done
WIDTH = 170  # of the table where nobody says
MB = 1024  # in kB, as Linux counts


@dataclass(frozen=True)
class Cost:
    """The cost of a job per repeat: seconds, and MB of peak memory above the weights."""

    seconds: tuple[float, ...]
    memory: tuple[float, ...]
    values: Values

    def times(self, factor: float) -> "Cost":
        """The cost of `factor` times the work: more time, the same memory."""
        return Cost(tuple(each * factor for each in self.seconds), self.memory, self.values)


@dataclass(frozen=True)
class Setting:
    """The settings that all measurements share."""

    folder: Path
    vocabulary: int
    seconds: float  # of repeats, per measurement
    threads: int


def measure(setting: Setting, prepare: Prepare, count: int, length: int) -> Cost:
    """Run a job in this process, on `count` prompts of `length` tokens."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(setting.threads)
    took: list[float] = []
    peaks: list[float] = []
    values: Values = {}
    with torch.no_grad():
        run = prepare(setting.folder)
        run(draw_prompts(setting.vocabulary, 2, 8), 0)  # threads, code and weights are in memory now
        prompts = draw_prompts(setting.vocabulary, count, length)
        _hand_back()
        before = _memory("VmRSS")
        while len(took) < FEWEST or (len(took) < MOST and sum(took) + took[-1] <= setting.seconds):
            _hand_back()
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
            start = time.perf_counter()
            values |= run(prompts, len(took))
            took.append(time.perf_counter() - start)
            peaks.append(_memory("VmHWM") - before)
    return Cost(tuple(took), tuple(peaks), values)


def _hand_back() -> None:
    """Return freed memory to the system; memory left from loading would hide the memory of a repeat."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _memory(field: str) -> float:
    """A memory field of this process in MB: VmRSS is the current memory, VmHWM the peak since its reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / MB


@dataclass(frozen=True)
class Work:
    """One implementation of a job; its measured time counts `factor` times."""

    name: str
    prepare: Prepare
    factor: float = 1.0


@dataclass(frozen=True)
class Job:
    """A row of the table: our implementation, the others (targets refer to the first), and the floor.

    `faster` and `smaller` are the targets: how many times less time and memory ours should take; `within`: seconds.
    """

    name: str
    prompts: int
    length: int
    ours: Work
    others: tuple[Work, ...]
    floor: Work
    faster: float | None
    smaller: float | None = None
    within: float | None = None

    @property
    def title(self) -> str:
        """The job, with its number of prompts (B) and tokens (T)."""
        return f"{self.name}, B {self.prompts}, T {self.length}"


def jobs(shape: Shape, small: bool) -> Iterator[Job]:
    """The rows, at the lengths of the targets or at small lengths."""
    medium, long = (32, 64) if small else (256, 1024)
    scoring = Work("headatlas score_heads", contenders.our_scores)
    readers = (
        Work("TransformerLens run_with_cache", contenders.lens_scores),
        Work("TransformerLens, patterns only", partial(contenders.lens_scores, names=contenders.is_pattern)),
        Work("transformers output_attentions", contenders.plain_scores),
    )
    one_pass = Work("floor: one pass", contenders.plain_pass)
    yield Job("scores of all heads", 4, medium, scoring, readers, one_pass, faster=2, smaller=5)
    yield Job("scores of all heads", 2, long, scoring, readers, one_pass, faster=4, smaller=10)
    heads = shape.layers * shape.heads
    rows: tuple[tuple[Positions, int, float], ...] = (("all", SHARE, 3.0), ("last", 1, 50.0))
    for positions, share, faster in rows:
        counted = f", 1 head in {share}, x {share}" if share > 1 else ""
        ours = Work(
            f"headatlas sweep{counted}", partial(contenders.our_ablation, positions=positions, share=share), share
        )
        loops = (
            Work(
                f"TransformerLens hooks, 1 head, x {heads}",
                partial(contenders.lens_ablation, positions=positions),
                heads,
            ),
            Work(
                f"transformers hooks, 1 head, x {heads}", partial(contenders.plain_ablation, positions=positions), heads
            ),
        )
        # From the head's layer on, on average (layers - 1) / 2 layers are run: the head's own needs only its MLP, and
        # the last only its attention, which together make one.
        passes = heads * (shape.layers - 1) / (2 * shape.layers)
        floor = Work(f"floor: {passes:g} passes", contenders.plain_pass, passes) if positions == "all" else one_pass
        where = "all positions" if positions == "all" else "the last position"
        yield Job(f"exact ablation of all {heads} heads at {where}", 4, medium, ours, loops, floor, faster)
    for frozen in (False, True):
        yield paths(shape, frozen)


def paths(shape: Shape, frozen: bool) -> Job:
    """The row of path patching from all heads to the logits."""
    heads, share = shape.layers * shape.heads, PAIRS / ROUND
    ours = Work(f"headatlas path_sweep, x {share:g}", partial(contenders.our_paths, frozen=frozen), share)
    loop = Work(
        f"TransformerLens hooks, 1 head, x {heads} x {share:g}",
        partial(contenders.lens_paths, frozen=frozen),
        heads * share,
    )
    passed = shape.layers * (shape.layers + 1) // 2  # layers, over the senders of each layer
    floor = (
        Work("floor: two passes", contenders.plain_pass, 2 * share)
        if frozen
        else Work(f"floor: products of {passed} MLPs", contenders.products, passed * share)
    )
    name = f"direct effect of all {heads} heads, {PAIRS} pairs, MLPs {'frozen' if frozen else 'recomputed'}"
    return Job(name, ROUND, 16, ours, (loop,), floor, faster=None, within=MINUTES * 60)


@dataclass(frozen=True)
class Ratio:
    """How many times more one implementation takes: ratio of medians, with the extremes over repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, theirs: Sequence[float], ours: Sequence[float], least: float) -> "Ratio":
        """The ratio; numbers below `least` are too small to measure and count as `least`."""
        a, b = ([max(each, least) for each in side] for side in (theirs, ours))
        return cls(statistics.median(a) / statistics.median(b), min(a) / max(b), max(a) / min(b))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"

    def verdict(self, target: float) -> str:
        """Says whether a target is met, and whether every repeat meets it."""
        met = self.median >= target
        clear = (self.low >= target) if met else (self.high < target)
        return ("met" if met else "MISSED") + ("" if clear else " within the spread")


def ratios(theirs: Cost, ours: Cost) -> tuple[Ratio, Ratio]:
    """The ratios of time and of memory."""
    return Ratio.of(theirs.seconds, ours.seconds, 1e-6), Ratio.of(theirs.memory, ours.memory, 1.0)


def disagreement(theirs: Cost, ours: Cost) -> str | None:
    """A sentence about different numbers of two implementations."""
    shared = theirs.values.keys() & ours.values.keys()
    if not shared:
        return "nothing that both computed"
    worst = max(shared, key=lambda name: abs(theirs.values[name] - ours.values[name]))
    gap = abs(theirs.values[worst] - ours.values[worst])
    return None if gap <= TOLERANCE else f"{worst} differs by {gap:.1e}"


class Bench:
    """The growing table, with the lines to print below it."""

    def __init__(self, cost: Callable[[Work, Job], Cost]) -> None:
        self.cost = cost
        self.problems: list[str] = []  # numbers that differ
        self.verdicts: list[str] = []  # on the targets
        self.table = Table(title="headatlas beside its peers, same weights and prompts, float32, CPU")
        self.table.add_column("work", min_width=44)
        for column in ("repeats", "seconds", "MB above weights", "x our time", "x our memory"):
            self.table.add_column(column, justify="right")

    def add(self, job: Job) -> None:
        """Measure a job and write its rows."""
        ours, floor = self.cost(job.ours, job), self.cost(job.floor, job)
        self.table.add_row(f"[bold]{job.title}")
        self.table.add_row(job.ours.name, *_measured(ours))
        for number, work in enumerate(job.others):
            theirs = self.cost(work, job)
            if number == 0:
                self.verdicts += self.judge(job, theirs, ours, floor)
            self.table.add_row(work.name, *_measured(theirs), *map(str, ratios(theirs, ours)))
            if problem := disagreement(theirs, ours):
                self.problems.append(f"{job.title}: headatlas and {work.name} do not agree: {problem}")
        self.table.add_row(job.floor.name, *_measured(floor), *map(str, ratios(floor, ours)))
        self.table.add_section()

    def judge(self, job: Job, theirs: Cost, ours: Cost, floor: Cost) -> Iterator[str]:
        """Add a line per target: whether it is met, and the best possible value."""
        targets = (("time", job.faster), ("memory", job.smaller))
        for (kind, target), ratio, best in zip(targets, ratios(theirs, ours), ratios(theirs, floor), strict=True):
            if target is not None:
                yield (
                    f"{ratio.verdict(target)}: {job.title}: {job.others[0].name} takes {ratio} times our {kind}; "
                    f"target {target:g}, at the floor {best.median:.3g}"
                )
        if job.within is not None:
            spare = Ratio.of([job.within], ours.seconds, 1e-6)
            took, least = (statistics.median(each.seconds) for each in (ours, floor))
            yield f"{spare.verdict(1)}: {job.title}: {took:.3g} s; target {job.within:g} s, at the floor {least:.3g} s"


def _measured(cost: Cost) -> tuple[str, str, str]:
    """Number of repeats, seconds and memory, as the table shows them."""
    spread = [
        f"{statistics.median(each):{digits}} ({min(each):{digits}} to {max(each):{digits}})"
        for each, digits in ((cost.seconds, ".3g"), (cost.memory, ".0f"))
    ]
    return str(len(cost.seconds)), spread[0], spread[1]


def in_fresh_process(setting: Setting) -> Callable[[Work, Job], Cost]:
    """Measures each implementation in its own process, and only once on the same prompts."""

    @cache
    def once(prepare: Prepare, prompts: int, length: int) -> Cost:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            return fresh.submit(measure, setting, prepare, prompts, length).result()

    def cost(work: Work, job: Job) -> Cost:
        print(f"{job.title}: {work.name}", file=sys.stderr, flush=True)
        try:
            return once(work.prepare, job.prompts, job.length).times(work.factor)
        except BrokenProcessPool:
            raise SystemExit(
                f"{work.name} at B {job.prompts}, T {job.length} was killed, most likely for want of memory; "
                "free some, or run on a larger machine"
            ) from None

    return cost


def main(small: bool) -> int:
    """Print the table. Returns 1 if numbers differ. A missed target is a result, printed with its floor."""
    began = time.perf_counter()
    transformers.utils.logging.disable_progress_bar()
    shape = SMALL if small else GPT2
    threads = 1 if small else torch.get_num_threads()  # so small a model is slower on several
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(shape, folder)
        bench = Bench(in_fresh_process(Setting(folder, shape.vocabulary, 1.0 if small else SECONDS, threads)))
        for job in jobs(shape, small):
            bench.add(job)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(bench.table)
    console.print("Medians, with the range in brackets; ratios compare medians.")
    for line in bench.verdicts:
        console.print(line, soft_wrap=True)
    if small:
        console.print("This was the small model; the targets do not apply to it.")
    console.print("\n".join(bench.problems) or f"All implementations computed the same numbers to {TOLERANCE:.0e}.")
    console.print(
        f"{time.perf_counter() - began:.0f} s on {threads} threads; torch {torch.__version__}, "
        f"transformers {transformers.__version__}, TransformerLens {version('transformer_lens')}."
    )
    return int(bool(bench.problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="2 layers and short prompts, to try the program")
    sys.exit(main(parser.parse_args().small))
