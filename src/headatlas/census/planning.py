"""Estimates what a census would take before it is taken: prompts, tokens, time and memory.

The prompts are drawn, so that their number and length are known, and the model is timed on one short and one long
batch. The work of the scores goes by counts on other models (`headatlas.protocol.work`). Whether heads are tested
again, and intervened on, depends on what is found, so that there is a lower and an upper end. While a census runs, the
time that is left is measured.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headatlas.catalog.catalog import Catalog
from headatlas.census.job import start
from headatlas.census.measuring import amount_of
from headatlas.census.parallel import CensusRequest, default_jobs
from headatlas.census.running import plan_of, units
from headatlas.census.schema import CensusSettings
from headatlas.lab import OpenModel, open_model
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.progress import Progress, no_progress
from headatlas.protocol import costs
from headatlas.protocol.budget import parameters
from headatlas.protocol.costs import Work
from headatlas.stimuli.prompts import UntestableError

_PER_PASS = 86.0  # tokens of work in a run of the model, counted in a census of SmolLM2
_SHOWN = 5  # types
_PROGRAM_MB = 706.0  # of Python, torch and the activations of one rerun


@dataclass(frozen=True)
class Planned:
    """What measuring one type would take.

    Attributes:
        id: of the type.
        least, most: tokens that pass all layers. Least: behaviour and the scores that select heads. Most: these again
            on more prompts, the scores that test heads, and interventions on all prompts.
        least_seconds, most_seconds: that these take one process.
    """

    id: str
    least: float
    most: float
    least_seconds: float
    most_seconds: float


@dataclass(frozen=True)
class Costs:
    """What a census would take.

    Attributes:
        model, processes, types, prompts, tokens: what would run, and the tokens of the prompts.
        least_seconds, most_seconds: from start to end: where no type finds heads, and where all do.
        memory_mb, weights_mb: of one process, and its weights within that.
        left_out: types that cannot be measured, and why.
        each: of the other types, the longest first.
    """

    model: str
    processes: int
    types: int
    prompts: int
    tokens: int
    least_seconds: float
    most_seconds: float
    memory_mb: float
    weights_mb: float
    left_out: dict[str, str]
    each: list[Planned]

    def lines(self) -> list[str]:
        """The estimate as text."""
        several = self.processes > 1
        processes = f"{self.processes} process{'es' if several else ''}"
        shared = ", in one copy for all processes" if several else ""
        return [
            f"{self.model}: {self.types} types, {self.prompts} prompts of {self.tokens} tokens, {processes}",
            f"{self.least_seconds:.0f} s if no type finds heads, {self.most_seconds:.0f} s if all do and need more "
            "prompts; the time left is measured while the census runs",
            "the longest: " + ", ".join(f"{one.id} {one.most_seconds:.0f} s" for one in self.each[:_SHOWN]),
            f"about {self.memory_mb:.0f} MB of memory in each process, {self.weights_mb:.0f} MB of it weights{shared}",
            *(f"not measured: {id} ({why})" for id, why in self.left_out.items()),
        ]


def plan(catalog: Catalog, request: CensusRequest, jobs: int | None, progress: Progress) -> Costs:
    """Estimate what the requested census would take.

    Raises:
        HeadatlasError: where the model cannot be opened.
    """
    processes, clock = jobs or default_jobs(request), time.perf_counter() - time.process_time()  # imports and all
    threads = torch.get_num_threads()
    if processes > 1:
        torch.set_num_threads(1)
    try:
        progress(f"opening {request.model}", 0, 0)
        with open_model(request.model, **request.options.keywords(), progress=progress) as model:
            opening = time.perf_counter() - clock
            settings = request.settings(catalog, parameters(model))
            ids = [id for unit in units(settings, request.shard) for id in unit]
            return costs_of(catalog, model, settings, ids, processes, opening, progress)
    finally:
        torch.set_num_threads(threads)


def costs_of(
    catalog: Catalog,
    model: OpenModel,
    settings: CensusSettings,
    ids: Sequence[str],
    processes: int = 1,
    opening: float = 0.0,
    progress: Progress = no_progress,
) -> Costs:
    """Estimate what measuring these types of a model that is open would take.

    Args:
        catalog, settings: of the census.
        model: that is open.
        ids: of the types.
        processes: that share the work.
        opening: seconds that it took to open the model.
        progress: told of progress.
    """
    record, amount = plan_of(catalog, model, settings).model, amount_of(settings)
    left_out, prompts, tokens, clock = {}, 0, 0, time.perf_counter()
    found: dict[str, tuple[Work, float]] = {}
    for number, id in enumerate(ids):
        progress(f"drawing the prompts of {id}", number, len(ids))
        job = start(catalog, id, record, settings)
        try:
            job.draw(model)
        except UntestableError as error:
            left_out[id] = str(error)
            continue
        drawn = job.drawn()
        more = costs.more_prompts(job.script, job.rule, model, amount, drawn) or 0
        again = more * len(job.script.families) / len(drawn.find.prompts)
        found[id] = costs.expected(job.script, job.rule, model, amount, drawn), again
        every = [prompt for sample in (drawn.find, drawn.test, drawn.task) for prompt in sample.prompts]
        prompts += len(every)
        tokens += sum(len(prompt.tokens) for prompt in every)
    drawing = time.perf_counter() - clock
    progress("timing the model", 0, 0)
    per_pass, per_token = speed(model)
    each = [_planned(id, work, again, per_token + per_pass / _PER_PASS) for id, (work, again) in found.items()]
    weights = sum(each.numel() * each.element_size() for each in model.model.parameters()) / 2**20
    return Costs(
        model=record.name,
        processes=processes,
        types=len(found),
        prompts=prompts,
        tokens=tokens,
        least_seconds=opening + drawing + sum(one.least_seconds for one in each) / processes,
        most_seconds=opening + drawing + sum(one.most_seconds for one in each) / processes,
        memory_mb=_PROGRAM_MB + weights,
        weights_mb=weights,
        left_out=left_out,
        each=sorted(each, key=lambda one: -one.most_seconds),
    )


def _planned(id: str, work: Work, again: float, seconds: float) -> Planned:
    """What a type would take, given the seconds of a token of work.

    `again` is how many times as many prompts are drawn where the first do not tell; 0 where no more are.
    """
    least = work.behaviour + work.find
    tests = max(again, 1.0) * work.test
    more = again * least + tests + work.whole
    slower = (work.pace - 1) * seconds
    first = seconds * least + slower * work.find
    return Planned(id, least, least + more, first, first + seconds * more + slower * (again * work.find + tests))


@torch.no_grad()
def speed(model: OpenModel) -> tuple[float, float]:
    """Seconds for a pass of the model however short, and for each token in it; attention is read."""
    length = min(32, model.context or 32)
    ordinary = list(model.vocabulary.ordinary)[: 16 * length]
    tokens = (ordinary * (16 * length // len(ordinary) + 1))[: 16 * length]
    rows = [tuple(tokens[start : start + length]) for start in range(0, len(tokens), length)]
    short, long = _timed(model, [rows[0][:8]]), _timed(model, rows)
    per_token = max(long - short, 1e-9) / (16 * length - 8)
    return max(short - 8 * per_token, 0.0), per_token


def _timed(model: OpenModel, rows: Sequence[tuple[int, ...]], times: int = 3) -> float:
    """Seconds of the fastest of some passes, after one to warm up."""
    asked = [PairQuestion(row, tuple((query, 0) for query in range(len(row)))) for row in rows]
    found = []
    for _ in range(times + 1):
        clock = time.perf_counter()
        attention_between(model, asked)
        found.append(time.perf_counter() - clock)
    return min(found[1:])
