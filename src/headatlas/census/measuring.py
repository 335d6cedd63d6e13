"""How the part of a type comes about: prompts, scores, behaviour, and the cause of its strongest candidates."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import torch

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType, Rule
from headatlas.census.cache import CacheKey, HeldOutScores, TypePart, TypeScores, key_of
from headatlas.census.schema import Settings, Tested, Work
from headatlas.errors import HeadatlasError
from headatlas.evidence import holding, statistics
from headatlas.evidence.records import Behaviour, ModelRecord, grid
from headatlas.lab import OpenModel, metric_per_prompt
from headatlas.lab import Scores as Found
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.running.passes import count_passes
from headatlas.progress import Progress
from headatlas.protocol import run
from headatlas.protocol.assess import Array, behaviour_of, of_heads
from headatlas.protocol.script import PromptSample, Script, Split, load_script
from headatlas.protocol.script_check import COSTS
from headatlas.stimuli.prompts import UntestableError

ALONE = 3  # how many of the strongest candidates are intervened on alone
NO_CAUSE = "no head is a candidate"
NONE_HOLDS = "no candidate holds on new prompts"


@dataclass
class Job:
    """One type on its way to a part."""

    key: CacheKey
    script: Script
    rule: Rule
    started: datetime
    work: Work = field(default_factory=lambda: Work(passes=0, tokens=0, seconds=0))
    find: PromptSample | None = None
    test: PromptSample | None = None
    task: PromptSample | None = None
    behaviour: Behaviour | None = None

    def drawn(self) -> tuple[PromptSample, PromptSample, PromptSample]:
        """Stimuli that select, stimuli that test, and the task."""
        assert self.find and self.test and self.task
        return self.find, self.test, self.task


def start(catalog: Catalog, id: str, model: ModelRecord, settings: Settings) -> Job:
    """A type that is about to be measured."""
    entry: HeadType = catalog.heads[id]
    assert entry.rule
    return Job(key_of(catalog, id, model, settings), load_script(id), entry.rule, datetime.now(UTC))


# --- one type, with a score of its own ----------------------------------------------------------------------------


def measure(job: Job, model: OpenModel) -> TypePart:
    """Measure a type whose script has a score of its own."""

    def whole() -> TypePart:
        draw(job, model)
        job.behaviour = _behaviour(job, model)
        if excuse := _excuse(job):
            return _without(job, model, *excuse).model_copy(update={"behaviour": job.behaviour})
        found = run.detected(job.script, model, job.drawn()[0])
        if _undecided(job, found):
            draw(job, model, as_in_a_run=True)
            found = run.detected(job.script, model, job.drawn()[0])
        held = run.detected(job.script, model, job.drawn()[1]) if _candidates(job.rule, found).any() else None
        return _finish(job, model, found, held)

    return _guarded(job, model, whole)


def _excuse(job: Job) -> tuple[str, str] | None:
    """Why a score is not measured in a model that lacks the behaviour: it would be a share of nothing, or is costly."""
    assert job.behaviour
    if job.behaviour.passed:
        return None
    if job.script.needs_behaviour:
        return "untestable", "the score is a share of a behaviour, and the model lacks it"
    why = COSTS[job.script.cost] if job.script.cost else None
    if job.key.settings.budget == "full" or why is None:
        return None
    reason = f"the model lacks the behaviour, and the score is costly ({why}); --budget full measures it all the same"
    return "left out", reason


def _guarded(job: Job, model: OpenModel, whole: Callable[[], TypePart]) -> TypePart:
    """The part, whatever goes wrong; a fault of one script must not cost the others their measurement."""
    torch.manual_seed(job.key.settings.seed)
    try:
        with working(job, model):
            part = whole()
    except UntestableError as error:
        part = _without(job, model, "untestable", f"the stimuli cannot be made: {error}")
    except HeadatlasError as error:
        part = _without(job, model, "untestable", str(error))
    except Exception as error:
        part = _without(job, model, "failed", f"the script failed ({type(error).__name__}: {error}); please report it")
    return part.model_copy(
        update={
            "work": job.work,
            "environment": run.environment(model, job.key.settings.seed, job.started, job.work.seconds),
        }
    )


@contextmanager
def working(job: Job, model: OpenModel) -> Iterator[None]:
    """Add what is done meanwhile to the work of a type."""
    clock = time.perf_counter()
    with count_passes(model) as count:
        try:
            yield
        finally:
            job.work.passes += count.passes
            job.work.tokens += count.tokens
            job.work.seconds += time.perf_counter() - clock


# --- types that go by the attention between pairs, together --------------------------------------------------------


def measure_pairs(jobs: Sequence[Job], model: OpenModel, report: Progress) -> Iterator[TypePart]:
    """Measure types that go by the attention between the pairs of their prompts; they share the runs of the model."""
    ready: list[Job] = []
    for job in jobs:
        part = _guarded(job, model, partial(_begun, job, model))
        if part.status == "measured":
            ready.append(job)
        else:
            yield part
    found = dict(zip(map(id, ready), _attend(ready, "find", model, report), strict=True))
    again = [job for job in ready if _undecided(job, found[id(job)])]
    for job in again:
        draw(job, model, as_in_a_run=True)
    found |= zip(map(id, again), _attend(again, "find", model, report), strict=True)
    chosen = [job for job in ready if _candidates(job.rule, found[id(job)]).any()]
    held = dict(zip(map(id, chosen), _attend(chosen, "test", model, report), strict=True))
    for job in ready:
        yield _guarded(job, model, partial(_finish, job, model, found[id(job)], held.get(id(job))))


def _begun(job: Job, model: OpenModel) -> TypePart:
    draw(job, model)
    job.behaviour = _behaviour(job, model)
    return _without(job, model, "measured", "")


def _attend(jobs: Sequence[Job], split: Split, model: OpenModel, report: Progress) -> list[Found]:
    """The scores of each type on its prompts, every sequence of tokens run once; the work is shared out by prompts."""
    drawn = [job.drawn()[0 if split == "find" else 1] for job in jobs]
    asked = questions(drawn)
    if not asked:
        return []
    done, total, clock = 0, len({each.tokens for each in asked}), time.perf_counter()

    def step(count: int) -> None:
        nonlocal done
        done += count
        report("attention between pairs", done, total)

    with count_passes(model) as count:
        values = attention_between(model, asked, step)
    seconds, found, start = time.perf_counter() - clock, [], 0
    for job, each in zip(jobs, drawn, strict=True):
        mine = values[start : start + 2 * len(each.prompts)]
        share = len(mine) / len(asked)
        job.work.passes += share * count.passes
        job.work.tokens += share * count.tokens
        job.work.seconds += share * seconds
        found.append(Found(mine[::2], mine[1::2]))
        start += len(mine)
    return found


def questions(drawn: Sequence[PromptSample]) -> list[PairQuestion]:
    """What attention is asked for: of each prompt in turn, and of its control."""
    return [
        each
        for one in drawn
        for prompt in one.prompts
        for each in (
            PairQuestion(prompt.tokens, prompt.pairs),
            PairQuestion(prompt.corrupted, prompt.null_pairs or prompt.pairs),
        )
    ]


# --- what all types have in common ---------------------------------------------------------------------------------


def draw(job: Job, model: OpenModel, as_in_a_run: bool = False) -> None:
    """Draw its prompts: the first of each family, as many as its settings say; or all those of a run.

    Raises:
        UntestableError: where the tokenizer cannot express them, or they do not fit the context.
    """
    most = None if as_in_a_run else job.key.settings.prompts
    job.find, job.test, job.task = run.draw(job.script, job.rule, model, job.key.settings.seed, most)


def _candidates(rule: Rule, found: Found) -> Array:
    """[layer head]: which heads may be selected, however many others are tested with them."""
    p = statistics.above_control(found.score, found.null)
    return (found.score.mean(0) >= rule.detection.threshold) & (p <= rule.detection.fdr)  # type: ignore[no-any-return]


def _undecided(job: Job, found: Found) -> bool:
    """Whether a head reaches the threshold and cannot be told from its control, and the rule asks for more prompts.

    Only where the model has the behaviour: else a finding could not be tested on it anyway.
    """
    most, rule = job.key.settings.prompts, job.rule
    if most is None or most >= rule.find or not (job.behaviour and job.behaviour.passed):
        return False
    q = statistics.q_values(statistics.above_control(found.score, found.null))
    return bool(((found.score.mean(0) >= rule.detection.threshold) & (q > rule.detection.fdr)).any())


def _behaviour(job: Job, model: OpenModel) -> Behaviour:
    task = job.drawn()[2]
    return behaviour_of(job.rule, metric_per_prompt(model, task.prompts, job.script.behaviour, job.script.contrast))


def _finish(job: Job, model: OpenModel, found: Found, held: Found | None) -> TypePart:
    """Add the cause, and make a part of all of it."""
    found = of_heads(found, model.anatomy, job.script.id)
    held = held and of_heads(held, model.anatomy, job.script.id)
    tested, why = _cause(job, model, found, held)
    part = _without(job, model, "measured", "")
    return part.model_copy(
        update={
            "reason": None,
            "scores": TypeScores(
                n=len(found.score),
                find=grid(found.score.mean(0)),
                find_control=grid(found.null.mean(0)),
                p=grid(statistics.above_control(found.score, found.null)),
                held=_held(held),
            ),
            "behaviour": job.behaviour,
            "tested": tested,
            "causal_why": why,
        }
    )


def _held(found: Found | None) -> HeldOutScores | None:
    if found is None:
        return None
    low, high = statistics.interval(found.score)
    return HeldOutScores(
        n=len(found.score),
        score=grid(found.score.mean(0)),
        low=grid(low),
        high=grid(high),
        control=grid(found.null.mean(0)),
    )


def _cause(job: Job, model: OpenModel, found: Found, held: Found | None) -> tuple[Tested | None, str]:
    """What intervening on the heads does that this type alone would select and that hold, or why it was not tried."""
    settings, rule = job.key.settings, job.rule
    q = statistics.q_values(statistics.above_control(found.score, found.null))
    selected = statistics.select(found.score.mean(0), q, rule.detection.threshold, rule.detection.fdr)
    if not selected or held is None:
        return None, NO_CAUSE
    score, control = (each.mean(0).tolist() for each in (held.score, held.null))
    selected, _ = holding.parted(selected, score, control, rule.detection.threshold)
    if not selected:
        return None, NONE_HOLDS
    if not settings.cause:
        return None, "interventions were not asked for"
    if job.behaviour and not job.behaviour.passed:
        return None, "the model lacks the behaviour that an intervention would have to move"
    find, _, task = job.drawn()
    changed = job.script.search(model, _fewer(task, settings.cause_prompts))
    heads = [str(head) for head in selected]
    moved = run.effects(
        job.script, rule, model, find, changed, heads, settings.seed, random_sets=settings.random_sets, alone=ALONE
    )
    if moved is None:
        return None, "no random set of as many other heads exists in this model"
    return Tested(heads=heads, figures=moved.cause(rule, slice(None))), ""


def _fewer(drawn: PromptSample, count: int | None) -> PromptSample:
    """The first prompts of each family."""
    if count is None:
        return drawn
    seen: dict[str, int] = {}
    index = []
    for number, family in enumerate(drawn.families):
        seen[family] = seen.get(family, 0) + 1
        if seen[family] <= count:
            index.append(number)
    return PromptSample([drawn.prompts[each] for each in index], [drawn.families[each] for each in index], drawn.split)


def _without(job: Job, model: OpenModel, status: str, reason: str) -> TypePart:
    """A part without measurements."""
    return TypePart.model_validate(
        {
            "entry": job.key.entry,
            "model": job.key.model,
            "settings": job.key.settings,
            "environment": run.environment(model, job.key.settings.seed, job.started, 0.0),
            "status": status,
            "reason": reason,
            "causal_why": "not measured",
            "work": job.work,
        }
    )
