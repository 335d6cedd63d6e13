"""Reruns one finding on one model: an entry and an open model go in, a run record comes out.

The steps are rooms in a row: `draw` the stimuli, `measure` numbers, `assess` them as parts of a record, give the
verdict (`headatlas.evidence.verdict`), and record.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import torch

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Finding, HeadType, Rule, VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import record_files, record_parts, records, verdict
from headatlas.lab import OpenModel
from headatlas.progress import Progress, no_progress, seed_name
from headatlas.protocol import costs, freshness
from headatlas.protocol.assess import Assessed, assess, behaviour_of, heads_that_hold, selection_of
from headatlas.protocol.budget import Budget, amount_of, parameters
from headatlas.protocol.draw_stimuli import DrawnStimuli, draw, fewer
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import Measured, measure_behaviour, measure_scores, why_unscored
from headatlas.protocol.provenance import catalog_id, environment, forget_peak_memory, model_record
from headatlas.protocol.script import Script, load_script
from headatlas.stimuli.chat import chat_frame
from headatlas.stimuli.prompts import UntestableError, Vocabulary


def run(
    catalog: Catalog,
    entry: HeadType,
    model: OpenModel,
    seeds: Sequence[int] = (0,),
    progress: Progress = no_progress,
    about: record_parts.ModelRecord | None = None,
    budget: Budget = "full",
    before: records.Record | None = None,
) -> records.Record:
    """Rerun one entry on one model.

    Heads are selected on some prompts and tested on others. A model whose tokenizer cannot express the stimuli gets
    the verdict `inconclusive`.

    Args:
        catalog: that the entry is in.
        entry: with a rule.
        model: to run on.
        seeds: of the stimuli. The record describes the run with the first seed, and keeps the verdicts of the others.
        progress: told of progress.
        about: what the record says of the model, where many records of one model are made: identifying a model with a
            large vocabulary takes seconds.
        budget: 'full' for as many prompts and random sets as the rule says, or 'quick' for few of both.
        before: a record of the same run with some of the seeds, the first among them; only the others are run.

    Raises:
        HeadatlasError: where the entry has no rule, or its script fails.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    forget_peak_memory()
    script, rule = load_script(entry.id, rule=entry.rule), entry.rule
    if rule is None:
        raise HeadatlasError(f"{entry.id} has a script but no rule; write the rule in its entry before running it")
    about = about or model_record(model, catalog_id(catalog, model))
    findings = [finding for finding in entry.findings if about.catalog_id and finding.model == about.catalog_id]
    known = before.stability.seeds if before else {}
    made = {
        str(seed): _run_seed(script, rule, model, findings, seed, budget, _of_seed(progress, seed, seeds))
        for seed in seeds
        if str(seed) not in known
    }
    labels = {each: made[each].verdict.label if each in made else known[each] for each in map(str, seeds)}
    if before:
        return record_files.with_seeds(before, labels, time.perf_counter() - clock)
    first = made[str(seeds[0])]
    found = first.assessed
    return records.Record(
        entry=freshness.entry_of(entry.id, rule.version, script.path),
        model=about,
        stimuli=first.stimuli,
        environment=environment(model, seeds[0], started, time.perf_counter() - clock, budget),
        behaviour=found.behaviour if found else None,
        detection=found.detection if found else None,
        cause=found.cause if found else None,
        literature=found.literature if found else records.Literature(),
        stability=records.Stability(families=first.families, seeds=labels),
        verdict=first.verdict,
    )


def _of_seed(progress: Progress, seed: int, seeds: Sequence[int]) -> Progress:
    """Progress that names the seed, where there are several."""
    if len(seeds) == 1:
        return progress
    return lambda what, done, total: progress(seed_name(seed, what), done, total)


@dataclass(frozen=True)
class _Outcome:
    """What the run of one seed found; only the verdict where the stimuli could not be made."""

    verdict: records.Verdict
    stimuli: records.Stimuli | None = None
    assessed: Assessed | None = None
    families: dict[str, VerdictLabel] = field(default_factory=dict)


def _run_seed(
    script: Script,
    rule: Rule,
    model: OpenModel,
    findings: Sequence[Finding],
    seed: int,
    budget: Budget,
    progress: Progress,
) -> _Outcome:
    torch.manual_seed(seed)
    try:
        measured = _measure(script, rule, model, seed, budget, progress)
    except UntestableError as error:
        return _Outcome(verdict.untestable(str(error)))
    found = assess(rule, measured, findings)
    families = {family: assess(rule, measured, findings, family) for family in script.families}
    return _Outcome(
        _judge(found),
        _stimuli(script, model.vocabulary, measured.stimuli),
        found,
        {family: _judge(each).label for family, each in families.items()},
    )


def _measure(script: Script, rule: Rule, model: OpenModel, seed: int, budget: Budget, progress: Progress) -> Measured:
    """Measure behaviour, then scores, then cause. Without the behaviour there is nothing that could be moved.

    Where a quick budget's prompts are too few to tell, more are drawn (`headatlas.protocol.costs.more_prompts`).
    """
    amount = amount_of(budget, parameters(model))
    measured = _look(script, rule, model, draw(script, rule, model, seed, amount.drawn(rule)), budget, progress)
    if measured.unscored:
        return measured
    if selection_of(measured.scores["find"]).undecided(rule) and behaviour_of(rule, measured.behaviour).passed:
        more = costs.more_prompts(script, rule, model, amount, measured.stimuli)
        if more is not None:
            measured = _look(script, rule, model, draw(script, rule, model, seed, more), budget, progress)
    stimuli, find = measured.stimuli, measured.scores["find"]
    test = measure_scores(script, model, stimuli.test, progress)
    measured = replace(measured, scores={"find": find, "test": test})
    if not _passed(script, rule, measured):
        return measured
    heads, _ = heads_that_hold(rule, selection_of(find), test)
    task = fewer(stimuli.task, amount.cause_prompts)
    effects = measure_effects(
        script, rule, model, stimuli.find, task, heads, seed, progress, amount.random_sets, amount.alone
    )
    return replace(measured, effects=effects, moved=task)


def _look(
    script: Script, rule: Rule, model: OpenModel, stimuli: DrawnStimuli, budget: Budget, progress: Progress
) -> Measured:
    """The behaviour, and the scores on the prompts that select heads, unless a model without the behaviour has none."""
    progress(costs.BEHAVIOUR, 0, 0)
    measured = Measured(stimuli, measure_behaviour(script, model, stimuli.task), {})
    if not _passed(script, rule, measured) and (why := why_unscored(script, budget)):
        return replace(measured, unscored=why)
    return replace(measured, scores={"find": measure_scores(script, model, stimuli.find, progress)})


def _passed(script: Script, rule: Rule, measured: Measured) -> bool:
    """Whether the model has the behaviour, on all prompts or on those of one family."""
    by_family = (measured.behaviour[measured.stimuli.task.of_family(family)] for family in script.families)
    return any(behaviour_of(rule, values).passed for values in (measured.behaviour, *by_family))


def _judge(found: Assessed) -> records.Verdict:
    return verdict.judge(found.behaviour, found.detection, found.cause, found.literature, unscored=found.unscored)


def _stimuli(script: Script, vocabulary: Vocabulary, stimuli: DrawnStimuli) -> records.Stimuli:
    digest = hashlib.sha256()
    for sample in (stimuli.task, stimuli.find, stimuli.test):
        for prompt in sample.prompts:
            digest.update(repr((prompt.tokens, prompt.corrupted, prompt.pairs, prompt.null_pairs)).encode())
            digest.update(repr(prompt.readouts).encode())
    bos = vocabulary.bos
    return records.Stimuli(
        sha256=digest.hexdigest(),
        families=script.families,
        bos=f"every prompt starts with token {bos[0]}" if bos else f"none: {vocabulary.without_bos}",
        chat=chat_frame(vocabulary).source if script.chat else None,
    )
