"""Reruns one finding on one model: entry and script in, run record out."""

import hashlib
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import transformers

from headatlas import specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Finding, HeadType, Rule, VerdictLabel
from headatlas.errors import HeadatlasError
from headatlas.evidence import judge, records, statistics
from headatlas.evidence.identity import folder_name
from headatlas.lab import OpenModel, Scores, ablate_sets, attention_scores, metric_per_prompt
from headatlas.lab.ablation import AblationKind, Patch, Reference
from headatlas.lab.fits.toys import TOY
from headatlas.lab.loading.identifying import edited, identity, weights_read
from headatlas.notation import Head
from headatlas.progress import Progress, no_progress
from headatlas.protocol import freshness
from headatlas.protocol.assess import Array, Effects, behaviour_of, detection_of, literature_of, of_heads
from headatlas.protocol.script import PromptSample, Script, Split, load_script
from headatlas.stimuli.prompts import UntestableError, Vocabulary


def run(
    catalog: Catalog,
    entry: HeadType,
    model: OpenModel,
    seeds: Sequence[int] = (0,),
    report: Progress = no_progress,
    about: records.ModelRecord | None = None,
) -> records.Record:
    """Rerun one entry on one model.

    Behaviour and cause are measured on `test` prompts, heads are selected on `find` prompts; the two never share
    a draw. A model whose tokenizer cannot express the stimuli gets `inconclusive`.

    Args:
        catalog: that the entry is in.
        entry: with a rule.
        model: to run on.
        seeds: of the stimuli. The record is of the first; of the others it keeps the verdict.
        report: told of progress.
        about: what a record says of the model, where many are made of one: telling what identifies a model with a
            large vocabulary takes seconds.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    script, rule = load_script(entry.id), entry.rule
    if rule is None:
        raise HeadatlasError(f"{entry.id} has a script but no rule; fix one in its entry before running")
    about = about or model_record(model, catalog_id(catalog, model))
    known = about.catalog_id
    findings = [finding for finding in entry.findings if known and finding.model == known]
    first, *others = (_measured(script, rule, model, findings, seed, report) for seed in seeds)
    labels = {str(seed): each.verdict.label for seed, each in zip(seeds, (first, *others), strict=True)}
    return records.Record(
        entry=freshness.entry_of(entry.id, rule.version, script.path),
        model=about,
        stimuli=first.stimuli,
        environment=environment(model, seeds[0], started, time.perf_counter() - clock),
        behaviour=first.behaviour,
        detection=first.detection,
        cause=first.cause,
        literature=first.literature,
        stability=records.Stability(families=dict(first.families), seeds=labels),
        verdict=first.verdict,
    )


@dataclass(frozen=True)
class Measured:
    """What one run found; only the verdict where the stimuli could not be made."""

    verdict: records.Verdict
    stimuli: records.Stimuli | None = None
    behaviour: records.Behaviour | None = None
    detection: records.Detection | None = None
    cause: records.Cause | None = None
    literature: records.Literature = field(default_factory=records.Literature)
    families: Mapping[str, VerdictLabel] = field(default_factory=dict)


def _measured(
    script: Script, rule: Rule, model: OpenModel, findings: Sequence[Finding], seed: int, report: Progress
) -> Measured:
    torch.manual_seed(seed)
    try:
        return _measure(script, rule, model, findings, seed, report)
    except UntestableError as error:
        return Measured(judge.untestable(str(error)))


def _measure(
    script: Script, rule: Rule, model: OpenModel, findings: Sequence[Finding], seed: int, report: Progress
) -> Measured:
    find, test, task = draw(script, rule, model, seed)
    stimuli: dict[Split, PromptSample] = {"find": find, "test": test}
    found = {split: _detect(script, model, drawn, report) for split, drawn in stimuli.items()}
    detection = detection_of(rule, found)
    plain = metric_per_prompt(model, task.prompts, script.behaviour, script.contrast)  # [prompt]
    behaviour = behaviour_of(rule, plain)
    changed = script.search(model, task) if detection.selected else task
    moved = effects(script, rule, model, stimuli["find"], changed, detection.selected, seed, report)
    cause = moved.cause(rule, slice(None)) if moved else None
    literature = literature_of(detection, findings)
    return Measured(
        judge.judge(behaviour, detection, cause, literature),
        _stimuli(script, model.vocabulary, [task, *stimuli.values()]),
        behaviour,
        detection,
        cause,
        literature,
        _families(script, rule, found, stimuli, plain, task, detection, moved, findings),
    )


def draw(
    script: Script, rule: Rule, model: OpenModel, seed: int, most: int | None = None
) -> tuple[PromptSample, PromptSample, PromptSample]:
    """The stimuli that select heads, those that test them, and the task.

    Args:
        script, rule: of the entry.
        model: whose tokenizer they are for, and which helps to search for them.
        seed: of the draw.
        most: of each family, where fewer are wanted than the rule says.

    Raises:
        UntestableError: where the tokenizer cannot express them, or they do not fit the context.
    """
    words = model.vocabulary
    finding, testing = (min(count, most or count) for count in (rule.find, rule.test))
    find = script.draw("stimulus", words, "find", finding, seed)
    test = script.draw("stimulus", words, "test", testing, seed, but=find)
    task = script.draw("task", words, "test", testing, seed, but=find)
    require_room(model, [find, test, task])
    return script.search(model, find), script.search(model, test), task


def require_room(model: OpenModel, drawn: Sequence[PromptSample]) -> None:
    """See that all prompts fit the context.

    Raises:
        UntestableError: where one does not.
    """
    longest = max(len(prompt.tokens) for each in drawn for prompt in each.prompts)
    if model.context is not None and longest > model.context:
        raise UntestableError(f"a prompt has {longest} tokens, and the context of this model only {model.context}")


def _detect(script: Script, model: OpenModel, drawn: PromptSample, report: Progress) -> Scores:
    step = _counter(report, f"scores, {drawn.split}", len(drawn.prompts))
    if script.detect is None:
        return of_heads(attention_scores(model, drawn.prompts, step), model.anatomy, script.id)
    found = detected(script, model, drawn)
    step(len(drawn.prompts))
    return found


def detected(script: Script, model: OpenModel, drawn: PromptSample) -> Scores:
    """What a script's own score says of each head, NaN where the model has no such head.

    Raises:
        HeadatlasError: where it says nothing of a head.
    """
    assert script.detect
    return of_heads(script.detect(model, drawn), model.anatomy, script.id)


def _counter(report: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        report(what, done, total)

    report(what, 0, total)
    return step


def effects(
    script: Script,
    rule: Rule,
    model: OpenModel,
    find: PromptSample,
    task: PromptSample,
    selected: Sequence[str],
    seed: int,
    report: Progress = no_progress,
    random_sets: int = statistics.RANDOM_SETS,
    alone: int | None = None,
) -> Effects | None:
    """Intervene on the selected heads together, on each alone, and on the matched random sets.

    Where the script silences heads, they are out in all of these runs and in the one that they are held against.

    Args:
        script, rule, model: as in `run`.
        find: prompts that the script's edit may learn from.
        task: prompts whose behaviour is read.
        selected: the heads, best first.
        seed: of the random sets.
        report: told of progress.
        random_sets: how many to draw, at most.
        alone: on how many of the heads, from the first, to intervene alone; on each by default.

    Returns:
        None where no head is selected, or no matched set exists.
    """
    heads = [Head.parse(head) for head in selected]
    if not heads:
        return None
    out = tuple(script.silenced(model)) if script.silenced else ()
    matched = statistics.matched_sets(heads, model.anatomy.all_heads, seed, random_sets, out)
    if not matched.sets:
        return None
    behaviour, contrast = script.effect
    single = heads[:alone]
    sets: list[Sequence[Head]] = [(), heads, *([head] for head in single), *matched.sets]
    values = ablate_sets(
        model,
        task.prompts,
        behaviour,
        [(*out, *each) for each in sets],
        intervention(script, rule, model, find),
        script.positions,
        contrast,
        progress=_counter(report, "interventions", (len(sets) - 1) * len(task.prompts)),
    )
    change = values[0] - values[1:] if rule.cause.direction == "decrease" else values[1:] - values[0]  # [set prompt]
    by_head = {str(head): change[1 + number] for number, head in enumerate(single)}
    return Effects(change[0], by_head, change[1 + len(single) :], matched)


def intervention(script: Script, rule: Rule, model: OpenModel, find: PromptSample) -> AblationKind | Reference | Patch:
    """What the rule's intervention puts in place of z: an ablation, or what the script's edit learns from `find`.

    Raises:
        HeadatlasError: where rule and script do not go together.
    """
    kind = rule.cause.intervention
    if script.edit and (kind == "steer" or kind == "patch"):
        return script.edit(model, find)
    if script.edit is None and kind != "steer" and kind != "patch":
        return kind
    has = "has an" if script.edit else "has no"
    raise HeadatlasError(f"the rule of {script.id} says {kind}, and its script {has} edit function; mend one of them")


def catalog_id(catalog: Catalog, model: OpenModel) -> str | None:
    """The catalog's id of this model: its name where headatlas ships or trains it, else by hub id or by its weights.

    None where an adapter was merged into it, or its weights were changed in memory.
    """
    if model.opened.adapter is not None or edited(model):
        return None  # another model than the one it was made of
    if model.name in specimens.names():
        return model.name if model.name in catalog.models else None
    if model.name == TOY and model.opened.source == "loaded":  # a folder of that name is another model
        return TOY
    for known in catalog.models.values():
        if model.sha256 == known.sha256 or (model.revision is not None and model.name in known.hub):
            return known.id
    return None


def _families(
    script: Script,
    rule: Rule,
    found: Mapping[Split, Scores],
    stimuli: Mapping[Split, PromptSample],
    plain: Array,
    task: PromptSample,
    detection: records.Detection,
    effects: Effects | None,
    findings: Sequence[Finding],
) -> dict[str, VerdictLabel]:
    """The verdict within each family: its own behaviour, its own detection, the cause on its own prompts.

    Cause is that of the heads selected over all families, measured on the family's prompts.
    """
    labels: dict[str, VerdictLabel] = {}
    for family in script.families:
        prompts = [number for number, name in enumerate(task.families) if name == family]
        units = {
            split: [number for number, name in enumerate(drawn.families) if name == family]
            for split, drawn in stimuli.items()
        }
        own = detection_of(rule, found, units) if found["find"].per == "prompt" else detection
        cause = effects.cause(rule, prompts) if effects else None
        behaviour = behaviour_of(rule, plain[prompts])
        labels[family] = judge.judge(behaviour, own, cause, literature_of(own, findings)).label
    return labels


# --- what is recorded about the run ---------------------------------------------------------------------------


def _stimuli(script: Script, words: Vocabulary, drawn: Sequence[PromptSample]) -> records.Stimuli:
    digest = hashlib.sha256()
    for each in drawn:
        for prompt in each.prompts:
            digest.update(repr((prompt.tokens, prompt.corrupted, prompt.pairs, prompt.null_pairs)).encode())
            digest.update(repr(prompt.readouts).encode())
    return records.Stimuli(
        sha256=digest.hexdigest(),
        families=script.families,
        bos=f"every prompt starts with token {words.bos[0]}" if words.bos else "none: the tokenizer has no BOS",
    )


def model_record(model: OpenModel, known: str | None) -> records.ModelRecord:
    """What a record says of the model as it is now; `known` is its id in the catalog."""
    what = identity(model)
    layers = range(model.anatomy.layers)
    heads, kv_heads = (
        [count(layer) for layer in layers] for count in (model.anatomy.heads_in, model.anatomy.kv_heads_in)
    )
    alike = len(set(heads)) == len(set(kv_heads)) == 1
    return records.ModelRecord(
        id=model.id,
        name=folder_name(model.name) if Path(model.name).is_dir() else model.name,
        revision=model.revision,
        sha256=model.sha256 if what.weights == weights_read(model.opened) else what.weights,
        architecture=model.architecture,
        layers=model.anatomy.layers,
        heads=model.anatomy.heads,
        kv_heads=model.anatomy.kv_heads,
        d_head=model.anatomy.d_head,
        catalog_id=known,
        identity=what,
        head_counts=None if alike else heads,
        kv_head_counts=None if alike else kv_heads,
    )


def environment(model: OpenModel, seed: int, started: datetime, seconds: float) -> records.Environment:
    """What a record says of where and how it ran."""
    return records.Environment(
        headatlas=version("headatlas"),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.implementation,
        threads=torch.get_num_threads(),
        seed=seed,
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
