"""Says what a census would take before it is taken: runs of the model, tokens, time, memory.

Prompts are drawn, so their number and lengths are known, and the model is timed on two small batches. What a score does
with a prompt goes by the functions of the lab that its script uses; the numbers below were counted in censuses of the
specimen (6 layers x 8 heads) and of a model of GPT-2's shape (12 x 12).
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from headatlas.catalog.catalog import Catalog
from headatlas.census import budget, measuring
from headatlas.census.parallel import CensusRequest, default_jobs
from headatlas.census.running import plan_of, units
from headatlas.census.schema import Settings
from headatlas.lab import OpenModel, open_model, probe_heads
from headatlas.lab.attention.pairs import PairQuestion, attention_between, token_batches
from headatlas.lab.fits.probes import DRAWS
from headatlas.lab.running.batches import batches, stack_tokens
from headatlas.lab.running.forward import forward
from headatlas.progress import Progress, no_progress
from headatlas.protocol.script import Script
from headatlas.stimuli.prompts import Prompt, UntestableError


@dataclass(frozen=True)
class Kind:
    """What a score takes: runs for each batch of prompts, tokens for each of theirs and for each prompt and head."""

    name: str
    uses: frozenset[str]
    passes: float
    tokens: float
    per_head: float = 0.0


KINDS = (
    Kind("gradients", frozenset({"learn_vectors"}), 60, 60),
    Kind("paths", frozenset({"path_effects", "movers"}), 18, 4, 2.2),
    Kind("layer by layer", frozenset({"followed_effects"}), 12, 12),
    Kind("sweeps", frozenset({"sweep"}), 18, 4, 3.0),
    Kind("reading", frozenset(), 3, 3),
)
FOUND = 0.5  # of the types measured are found in a trained model: 24 of 52 on the specimen
ABLE = 0.8  # of the behaviours without which a score is not measured are there in a trained model
CHANCE = 0.95  # a loss above this share of ln(vocabulary) is that of a model that has learned nothing


@dataclass(frozen=True)
class Cost:
    """Runs of the model, the tokens in them, and seconds."""

    passes: float
    tokens: float
    seconds: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.passes + other.passes, self.tokens + other.tokens, self.seconds + other.seconds)


@dataclass(frozen=True)
class Speed:
    """Of one process: seconds for a run of the model however short, and for each token."""

    per_pass: float
    per_token: float

    def of(self, passes: float, tokens: float) -> Cost:
        return Cost(passes, tokens, passes * self.per_pass + tokens * self.per_token)


@dataclass(frozen=True)
class Costs:
    """What a census would take.

    Attributes:
        model, processes, types, prompts: what would run.
        learned: whether the model predicts better than chance; if not, nothing is expected to be found.
        shared: runs of the model that are saved because several scores use them.
        detection, interventions: what each would take, of all processes together.
        seconds: from start to end.
        memory_mb, weights_mb: of one process at most, and its weights within that.
        left_out: types that cannot be measured, and why.
    """

    model: str
    processes: int
    types: int
    prompts: int
    learned: bool
    shared: int
    detection: Cost
    interventions: Cost
    seconds: float
    memory_mb: float
    weights_mb: float
    left_out: dict[str, str]

    def lines(self) -> list[str]:
        """The plan in words."""
        found = "half of the types are found" if self.learned else "it has learned nothing, so nothing is found"
        return [
            f"{self.model}: {self.types} types, {self.prompts} prompts, {self.processes} process"
            f"{'es' if self.processes > 1 else ''}",
            _say("detection and behaviour", self.detection),
            f"{_say('interventions', self.interventions)}, if {found}",
            f"shared: {self.shared} sequences of tokens are read once for several scores",
            f"in all about {self.seconds:.0f} s, and {self.memory_mb:.0f} MB of memory "
            f"({self.weights_mb:.0f} MB of them weights) in each process",
            *(f"not measured: {id} ({why})" for id, why in self.left_out.items()),
        ]


def _say(what: str, cost: Cost) -> str:
    return f"{what}: {cost.passes:.0f} runs of the model, {cost.tokens:.0f} tokens, {cost.seconds:.0f} s of work"


def plan(catalog: Catalog, order: CensusRequest, jobs: int | None, report: Progress) -> Costs:
    """Plan the census that was ordered.

    Raises:
        HeadatlasError: where the model cannot be opened.
    """
    processes, clock = jobs or default_jobs(order), time.perf_counter() - time.process_time()  # imports and all
    threads = torch.get_num_threads()
    if processes > 1:
        torch.set_num_threads(1)
    try:
        report(f"opening {order.model}", 0, 0)
        with open_model(order.model, **order.options.keywords()) as model:
            opening = time.perf_counter() - clock
            settings = order.settings(catalog, budget.parameters(model))
            ids = [id for unit in units(settings, order.shard) for id in unit]
            return costs_of(catalog, model, settings, ids, processes, opening, report)
    finally:
        torch.set_num_threads(threads)


def costs_of(
    catalog: Catalog,
    model: OpenModel,
    settings: Settings,
    ids: Sequence[str],
    processes: int = 1,
    opening: float = 0.0,
    report: Progress = no_progress,
) -> Costs:
    """What measuring these types of a model that is open would take."""
    record = plan_of(catalog, model, settings).model
    jobs, left_out, clock = [], {}, time.perf_counter()
    for number, id in enumerate(ids):
        report(f"drawing the prompts of {id}", number, len(ids))
        job = measuring.start(catalog, id, record, settings)
        try:
            measuring.draw(job, model)
            jobs.append(job)
        except UntestableError as error:
            left_out[id] = str(error)
    drawing = Cost(0, 0, time.perf_counter() - clock)
    report("timing the model", 0, 0)
    speed, learned = calibrate(model, [prompt for job in jobs for prompt in job.drawn()[2].prompts])
    pairs = [job for job in jobs if job.script.detect is None]
    detection, interventions = drawing, Cost(0, 0, 0)
    again = FOUND if learned else 0.0  # the share of types that are measured on held-out prompts too
    asked = measuring.questions([job.drawn()[0] for job in pairs])
    different = token_batches(model, asked)
    runs = speed.of(len(different), sum(len(each) * len(next(iter(each))) for each in different))
    detection += _times(runs, 1 + again)
    for job in jobs:
        part = _detection(model, job, speed) if job.script.detect else Cost(0, 0, 0)
        costly = budget.costly(job.script) is not None and settings.budget == "quick"
        conditional = costly or budget.of_behaviour(job.script)
        share = 1.0 if not conditional else ABLE if learned else 0.0
        detection += _times(part, share * (1 + again)) + _behaviour(model, job, speed)
        if settings.cause and learned:
            interventions += _times(_intervention(model, job, speed), FOUND)
    weights = sum(each.numel() * each.element_size() for each in model.model.parameters()) / 2**20
    work = detection.seconds + interventions.seconds
    return Costs(
        model=record.name,
        processes=processes,
        types=len(jobs),
        prompts=sum(len(each.prompts) for job in jobs for each in job.drawn()),
        learned=learned,
        shared=len(asked) - sum(map(len, different)),
        detection=detection,
        interventions=interventions,
        seconds=opening + work / processes,
        memory_mb=weights + memory(model, [job.drawn()[2].prompts for job in jobs]),
        weights_mb=weights,
        left_out=left_out,
    )


def _times(cost: Cost, factor: float) -> Cost:
    return Cost(cost.passes * factor, cost.tokens * factor, cost.seconds * factor)


def kind_of(script: Script) -> Kind:
    """What a script's score takes, by the functions that it uses."""
    used = vars(script.module).keys()
    return next(kind for kind in KINDS if kind.uses & used or not kind.uses)


def _detection(model: OpenModel, job: measuring.Job, speed: Speed) -> Cost:
    prompts, kind = job.drawn()[0].prompts, kind_of(job.script)
    runs, tokens = _read(model, prompts)
    each_head = kind.per_head * len(prompts) * len(model.anatomy.all_heads)
    found = speed.of(kind.passes * runs, kind.tokens * tokens + each_head)
    if "copying_scores" in vars(job.script.module):
        found += speed.of(0, _words_through_heads(model))
    if job.rule.detection.fitted:
        found += _fit(model, len(prompts))
    return found


def _fit(model: OpenModel, prompts: int) -> Cost:
    """What fitting probes takes: those of one layer are fitted to noise, once, and timed."""
    anatomy = model.anatomy
    noise = torch.randn(prompts, 1, anatomy.heads, anatomy.d_head, generator=torch.Generator().manual_seed(0))
    clock = time.perf_counter()
    probe_heads(noise, [number % 2 for number in range(prompts)], range(prompts), draws=1)
    return Cost(0, 0, (time.perf_counter() - clock) * len(anatomy.attention_layers) * (1 + DRAWS) / 2)


def _words_through_heads(model: OpenModel) -> float:
    """Some hundred words through every head onto the vocabulary, in tokens that cost as much to run."""
    vocabulary, width = model.model.get_input_embeddings().weight.shape
    every = sum(each.numel() for each in model.model.parameters())
    return 100.0 * len(model.anatomy.all_heads) * int(vocabulary) * int(width) / int(every)


def _behaviour(model: OpenModel, job: measuring.Job, speed: Speed) -> Cost:
    sides = 2 if job.script.contrast else 1
    runs, tokens = _read(model, job.drawn()[2].prompts)
    return speed.of(sides * runs, sides * tokens)


def _intervention(model: OpenModel, job: measuring.Job, speed: Speed) -> Cost:
    """Sets start in some layer, on average the middle; at the last position little else than it is run."""
    settings, prompts = job.key.settings, job.drawn()[2].prompts
    share = min(1.0, (settings.cause_prompts or 10**6) * len(job.script.families) / len(prompts))
    sets = settings.random_sets + measuring.ALONE + 1
    sides = 2 if job.script.effect[1] else 1
    runs, tokens = _read(model, prompts)
    if isinstance(job.script.positions, str) and job.script.positions == "all":
        return speed.of(share * sides * runs * sets / 2, share * sides * tokens * sets / 2)
    return speed.of(share * sides * runs * 6, share * sides * (4 * tokens + len(prompts) * sets))


def _read(model: OpenModel, prompts: Sequence[Prompt]) -> tuple[int, int]:
    """Batches of prompts, and the tokens in them."""
    made = list(batches(model, prompts, lambda prompt: len(prompt.readouts)))
    return len(made), sum(len(prompt.tokens) for prompt in prompts)


@torch.no_grad()
def calibrate(model: OpenModel, prompts: Sequence[Prompt]) -> tuple[Speed, bool]:
    """Time a short and a long batch; and see whether the model predicts better than chance."""
    tokens = [token for prompt in prompts for token in prompt.tokens] or list(model.vocabulary.ordinary)
    length = min(32, model.context or 32)
    tokens = (tokens * math.ceil(16 * length / len(tokens)))[: 16 * length]
    rows = stack_tokens([tuple(tokens[start : start + length]) for start in range(0, len(tokens), length)])
    short, long = (_timed(model, each) for each in (rows[:1, :8], rows))
    per_token = max(long - short, 1e-9) / (rows.numel() - 8)
    read, total = [prompt for prompt in prompts if prompt.readouts][:64], 0.0
    for prompt in read:
        logits = forward(model, stack_tokens([prompt.tokens]), positions=torch.tensor([prompt.readouts[-1].position]))
        total -= float(logits[0, 0].log_softmax(-1)[prompt.readouts[-1].answer])
    learned = bool(read) and total / len(read) < CHANCE * math.log(model.vocabulary.size)
    return Speed(max(short - 8 * per_token, 0.0), per_token), learned


def _timed(model: OpenModel, tokens: torch.Tensor, times: int = 3) -> float:
    """Seconds of the fastest of some runs in which attention is read, after one to warm up."""
    pairs = tuple((query, 0) for query in range(tokens.shape[1]))
    asked = [PairQuestion(tuple(row), pairs) for row in tokens.tolist()]
    found = []
    for _ in range(times + 1):
        clock = time.perf_counter()
        attention_between(model, asked)
        found.append(time.perf_counter() - clock)
    return min(found[1:])


def memory(model: OpenModel, tasks: Sequence[Sequence[Prompt]]) -> float:
    """Megabytes beyond the weights: the program, the activations of reruns, and the logits of the largest batch."""
    size, largest = model.vocabulary.size, 0
    for prompts in tasks:
        for _, batch in batches(model, prompts, lambda prompt: len(prompt.readouts)):
            positions = {readout.position for prompt in batch for readout in prompt.readouts}
            largest = max(largest, len(batch) * len(positions))
    return 450.0 + 2 * 128.0 + 3 * largest * size * 4 / 2**20
