"""Measures head types on a model for a census, by the steps of a run: draw, behaviour, scores, cause.

A census differs from a run in three ways. It draws fewer prompts first, and as many as the rule says only where those
are too few to tell. It skips a score that is costly, or normalised by the behaviour, in a model without the behaviour.
Types that go by the attention between pairs share the passes of the model.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from headatlas.census.cache import HeldOutScores, TypePart, TypeScores
from headatlas.census.job import Ending, Job
from headatlas.census.schema import CensusSettings, Tested
from headatlas.errors import HeadatlasError
from headatlas.evidence.record_parts import grid
from headatlas.evidence.records import Detection
from headatlas.lab import OpenModel, Scores
from headatlas.lab.running.passes import count_passes
from headatlas.notation import Head
from headatlas.progress import Progress, counter, no_progress
from headatlas.protocol import costs
from headatlas.protocol.assess import (
    behaviour_of,
    cause_of,
    detection_of,
    selection_of,
)
from headatlas.protocol.budget import Amount
from headatlas.protocol.draw_stimuli import fewer
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import (
    measure_attention_scores,
    measure_behaviour,
    measure_scores,
    of_heads,
    sequences_in,
    why_unscored,
)
from headatlas.protocol.script import Split
from headatlas.protocol.script_faults import failed
from headatlas.stimuli.prompts import UntestableError

_ALONE = {"quick": 1, "full": 3}  # how many of the strongest candidates are intervened on alone
NO_CAUSE = "no head is a candidate"
NONE_HOLDS = "no candidate holds on new prompts"


def measure(jobs: Sequence[Job], model: OpenModel, progress: Progress) -> Iterator[TypePart]:
    """Measure types. Those without a score of their own share the passes of the model.

    Yields:
        One part per job. A fault of one script ends its job and no other.
    """
    progress(costs.BEHAVIOUR, 0, 0)
    for job in jobs:
        _step(job, model, _begin)
    _score(jobs, "find", model, progress)
    again = []
    for job in (job for job in jobs if not job.ending and _undecided(job)):
        more = costs.more_prompts(job.script, job.rule, model, amount_of(job.key.settings), job.drawn())
        if more is not None:
            _step(job, model, partial(Job.draw, prompts=more))
            again.append(job)
    _score(again, "find", model, progress)
    candidates = [job for job in jobs if job.selection and job.selection.any_candidate(job.rule)]
    _score(candidates, "test", model, progress)
    for number, job in enumerate(jobs):
        if len(jobs) > 1:
            progress(costs.INTERVENTIONS, number, len(jobs))
        _step(job, model, partial(_finish, progress=progress if len(jobs) == 1 else no_progress))
        yield job.part(model)


def amount_of(settings: CensusSettings) -> Amount:
    """How many prompts and interventions the settings of a census ask for."""
    sets = settings.random_sets if settings.cause else 0
    return Amount(settings.prompts, settings.cause_prompts, sets, _ALONE[settings.budget])


# --- the steps ------------------------------------------------------------------------------------------------------


def _step(job: Job, model: OpenModel, step: Callable[[Job, OpenModel], None]) -> None:
    """Take a step of a job that has not ended; an error ends it."""
    if job.ending:
        return
    torch.manual_seed(job.key.settings.seed)
    try:
        with _counting(job, model):
            step(job, model)
    except UntestableError as error:
        job.ending = Ending("untestable", f"the stimuli cannot be made: {error}")
    except HeadatlasError as error:
        job.ending = Ending("untestable", str(error))
    except Exception as error:  # a fault of one script must not cost the others their measurement
        job.ending = Ending("failed", failed(error, job.script.path))


@contextmanager
def _counting(job: Job, model: OpenModel) -> Iterator[None]:
    """Add the work that is done within to that of a job."""
    clock = time.perf_counter()
    with count_passes(model) as count:
        try:
            yield
        finally:
            job.work.passes += count.passes
            job.work.tokens += count.tokens
            job.work.seconds += time.perf_counter() - clock


def _begin(job: Job, model: OpenModel) -> None:
    """Draw, and measure the behaviour. The job ends here where its score would say nothing."""
    job.draw(model)
    job.behaviour = behaviour_of(job.rule, measure_behaviour(job.script, model, job.drawn().task))
    if job.behaviour.passed or job.script.detect is None:
        return
    if why := why_unscored(job.script, job.key.settings.budget):
        job.ending = Ending("untestable" if job.script.needs_behaviour else "left out", why)


def _score(jobs: Sequence[Job], split: Split, model: OpenModel, progress: Progress) -> None:
    """Score all heads on the prompts of a split."""
    going = [job for job in jobs if not job.ending]
    _score_pairs([job for job in going if job.script.detect is None], split, model, progress)
    for job in going:
        if job.script.detect is not None:
            _step(job, model, partial(_score_own, split=split, progress=progress))


def _score_own(job: Job, model: OpenModel, split: Split, progress: Progress) -> None:
    _keep(job, split, measure_scores(job.script, model, job.drawn().of(split), progress))


def _score_pairs(jobs: Sequence[Job], split: Split, model: OpenModel, progress: Progress) -> None:
    """Read the attention between pairs for all of them together; the work is divided by the number of prompts."""
    if not jobs:
        return
    samples = [job.drawn().of(split) for job in jobs]
    total, clock = sum(len(sample.prompts) for sample in samples), time.perf_counter()
    with count_passes(model) as count:
        step = counter(progress, costs.scores_step(split), sequences_in(samples))
        found = measure_attention_scores(model, samples, step)
    seconds = time.perf_counter() - clock
    for job, scores, sample in zip(jobs, found, samples, strict=True):
        share = len(sample.prompts) / total
        job.work.passes += share * count.passes
        job.work.tokens += share * count.tokens
        job.work.seconds += share * seconds
        _step(job, model, partial(_keep_checked, split=split, scores=scores))


def _keep_checked(job: Job, model: OpenModel, split: Split, scores: Scores) -> None:
    _keep(job, split, of_heads(scores, model.anatomy, job.script.id))


def _keep(job: Job, split: Split, scores: Scores) -> None:
    job.scores[split] = scores
    if split == "find":
        job.selection = selection_of(scores)


def _undecided(job: Job) -> bool:
    """Whether a head reaches the threshold without significance, in a model that has the behaviour.

    Without the behaviour the finding could not be tested anyway.
    """
    return bool(job.behaviour and job.behaviour.passed and job.selection and job.selection.undecided(job.rule))


def _finish(job: Job, model: OpenModel, progress: Progress) -> None:
    """Measure the cause, and end the job with all figures."""
    selection, find, held = job.selection, job.scores["find"], None
    assert selection
    detection = detection_of(job.rule, job.scores) if "test" in job.scores else None
    tested, why = _cause(job, model, detection, progress)
    if detection:
        held = HeldOutScores(
            n=detection.n_test,
            score=detection.score,
            low=detection.low,
            high=detection.high,
            control=detection.control,
        )
    scores = TypeScores(
        n=len(find.score),
        find=grid(selection.score),
        find_control=grid(find.null.mean(0)),
        p=grid(selection.p),
        held=held,
    )
    job.ending = Ending("measured", None, scores=scores, tested=tested, causal_why=why)


def _cause(job: Job, model: OpenModel, detection: Detection | None, progress: Progress) -> tuple[Tested | None, str]:
    """Intervene on the heads that this type alone would select and that hold; or say why that was not done."""
    settings, rule = job.key.settings, job.rule
    if detection is None or not (detection.selected or detection.did_not_hold):
        return None, NO_CAUSE
    if not detection.selected:
        return None, NONE_HOLDS
    if not settings.cause:
        return None, "interventions were not asked for"
    if job.behaviour and not job.behaviour.passed:
        return None, "the model lacks the behaviour that an intervention would have to move"
    stimuli, amount = job.drawn(), amount_of(settings)
    effects = measure_effects(
        job.script,
        rule,
        model,
        stimuli.find,
        fewer(stimuli.task, amount.cause_prompts),
        [Head.parse(head) for head in detection.selected],
        settings.seed,
        progress,
        random_sets=amount.random_sets,
        alone=amount.alone,
    )
    figures = cause_of(rule, effects) if effects else None
    if figures is None:
        return None, "no random set of as many other heads exists in this model"
    return Tested(heads=detection.selected, figures=figures), ""
