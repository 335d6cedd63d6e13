"""Reruns one finding on one model: entry and script in, run record out."""

import hashlib
import platform
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from headatlas import paths, scripts, specimens
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Finding, HeadType, Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence import records, statistics, verdict
from headatlas.lab import Behaviour, OpenModel, Scores, ablate_sets, attention_scores, behave
from headatlas.notation import Head
from headatlas.stimuli.prompts import Prompt, TooFewWordsError, Vocabulary

Array = NDArray[np.float64]
Split = Literal["find", "test"]
# Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Script:
    """A reproduction: a module in reproductions/ that supplies these names.

    FAMILIES        prompt families, in order; the keys name them
    BEHAVIOUR       a function of headatlas.lab.readouts
    CONTRAST        True where behaviour is prompt minus control (default False)
    stimulus        (words, family, rng) -> Prompt, for detection
    task            the same, for behaviour and cause (default: stimulus)
    detect          (model, split) -> Scores, instead of stimulus, where detection is not attention between pairs
    """

    id: str
    sha256: str
    module: ModuleType

    @property
    def families(self) -> list[str]:
        return list(self.module.FAMILIES)

    @property
    def behaviour(self) -> Behaviour:
        return self.module.BEHAVIOUR  # type: ignore[no-any-return]

    @property
    def contrast(self) -> bool:
        return bool(getattr(self.module, "CONTRAST", False))

    @property
    def detect(self) -> Callable[[OpenModel, Split], Scores] | None:
        return getattr(self.module, "detect", None)

    def draw(
        self, kind: Literal["stimulus", "task"], words: Vocabulary, split: Split, count: int, seed: int
    ) -> "Drawn":
        """`count` prompts per family; find and test, and every family, draw from seeds of their own."""
        make = getattr(self.module, kind, None) or self.module.stimulus
        families = [family for family in self.families for _ in range(count)]
        prompts = [
            make(words, family, random.Random(f"{seed}/{self.id}/{kind}/{split}/{family}/{number}"))
            for family in self.families
            for number in range(count)
        ]
        return Drawn(prompts, families)


@dataclass(frozen=True)
class Drawn:
    """Prompts, and the family of each."""

    prompts: list[Prompt]
    families: list[str]


def load_script(id: str, folder: Path | None = None) -> Script:
    """Load reproductions/<id>.py.

    Raises:
        HeadatlasError: where there is none, or it does not import.
    """
    path = (folder or paths.reproductions()) / f"{id}.py"
    module = scripts.load(path, f"{id} has no reproduction script; expected {path}")
    return Script(id, hashlib.sha256(path.read_bytes()).hexdigest(), module)


def run(catalog: Catalog, entry: HeadType, model: OpenModel, seed: int = 0, report: Report = _silent) -> records.Record:
    """Rerun one entry on one model.

    Behaviour and cause are measured on `test` prompts, heads are selected on `find` prompts; the two never share
    a draw. A model whose tokenizer cannot express the stimuli gets `inconclusive`.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    torch.manual_seed(seed)
    script, rule = load_script(entry.id), entry.rule
    if rule is None:
        raise HeadatlasError(f"{entry.id} has a script but no rule; fix one in its entry before running")
    known = catalog_id(catalog, model)
    findings = [finding for finding in entry.findings if known and finding.model == known]
    try:
        measured = _measure(script, rule, model, findings, seed, report)
    except TooFewWordsError as error:
        measured = Measured(verdict.untestable(str(error)))
    return records.Record(
        entry=records.Entry(id=entry.id, rule_version=rule.version, script_sha256=script.sha256),
        model=_model_record(model, known),
        stimuli=measured.stimuli,
        environment=_environment(model, seed, started, time.perf_counter() - clock),
        behaviour=measured.behaviour,
        detection=measured.detection,
        cause=measured.cause,
        literature=measured.literature,
        stability=records.Stability(families=dict(measured.families), seeds={str(seed): measured.verdict.label}),
        verdict=measured.verdict,
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
    families: Mapping[str, records.VerdictLabel] = field(default_factory=dict)


def _measure(
    script: Script, rule: Rule, model: OpenModel, findings: Sequence[Finding], seed: int, report: Report
) -> Measured:
    words = model.vocabulary
    task = script.draw("task", words, "test", rule.test, seed)
    stimuli: dict[Split, Drawn] = {}
    if script.detect is None:
        stimuli = {
            "find": script.draw("stimulus", words, "find", rule.find, seed),
            "test": script.draw("stimulus", words, "test", rule.test, seed),
        }
    found = _detect(script, model, stimuli, report)
    detection = _detection(rule, found)
    plain = behave(model, task.prompts, script.behaviour, script.contrast)[0]  # [prompt]
    behaviour = _behaviour(rule, plain)
    effects = _effects(script, rule, model, task, detection.selected, plain, seed, report)
    cause = effects.cause(rule, slice(None)) if effects else None
    literature = _literature(detection, findings)
    return Measured(
        verdict.judge(behaviour, detection, cause, literature),
        _stimuli(script, words, [task, *stimuli.values()]),
        behaviour,
        detection,
        cause,
        literature,
        _families(script, rule, found, stimuli, plain, task, detection, effects, findings),
    )


# --- detection ------------------------------------------------------------------------------------------------


def _detect(script: Script, model: OpenModel, stimuli: Mapping[Split, Drawn], report: Report) -> dict[Split, Scores]:
    if script.detect is not None:
        return {"find": script.detect(model, "find"), "test": script.detect(model, "test")}
    return {
        split: attention_scores(model, drawn.prompts, _counter(report, f"scores, {split}", len(drawn.prompts)))
        for split, drawn in stimuli.items()
    }


def _counter(report: Report, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        report(what, done, total)

    report(what, 0, total)
    return step


def _detection(
    rule: Rule, found: Mapping[Split, Scores], units: Mapping[Split, list[int]] | None = None
) -> records.Detection:
    """Select on `find`, measure on `test`, over the given units of each (or all)."""
    find, test = (found[split].only(units[split]) if units else found[split] for split in ("find", "test"))
    score, control, held, held_control = find.score, find.control, test.score, test.control
    q = statistics.q_values(statistics.above_control(score, control))
    selected = statistics.select(score.mean(0), q, rule.detection.threshold, rule.detection.fdr)
    low, high = statistics.interval(held)
    sink = None if test.sink is None else test.sink.mean(0)
    return records.Detection(
        metric=rule.detection.metric,
        threshold=rule.detection.threshold,
        fdr=rule.detection.fdr,
        null="one-sided paired t test of score minus control; Benjamini-Hochberg over all heads",
        n_find=len(score),
        n_test=len(held),
        find=records.grid(score.mean(0)),
        find_control=records.grid(control.mean(0)),
        q=records.grid(q),
        score=records.grid(held.mean(0)),
        low=records.grid(low),
        high=records.grid(high),
        control=records.grid(held_control.mean(0)),
        sink_normalised=None if sink is None else records.grid(_without_sink(held.mean(0), sink)),
        selected=[str(head) for head in selected],
    )


def _without_sink(score: Array, sink: Array) -> Array:
    """The share of a head's weight off the first position that goes where the score looks: [layer head]."""
    return np.clip(score / np.maximum(1.0 - sink, 1e-6), 0.0, 1.0)


# --- behaviour and cause --------------------------------------------------------------------------------------


def _behaviour(rule: Rule, values: Array) -> records.Behaviour:
    low, high = statistics.interval(values)
    return records.Behaviour(
        metric=rule.behaviour.metric,
        unit=rule.behaviour.unit,
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        chance=rule.behaviour.chance,
        minimum=rule.behaviour.minimum,
        n=len(values),
        passed=bool(low > max(rule.behaviour.chance, rule.behaviour.minimum)),
    )


@dataclass(frozen=True)
class Effects:
    """What ablating does to the behaviour, per prompt: signed so that the claimed direction is positive."""

    selected: Array  # [prompt]
    alone: dict[str, Array]  # head -> [prompt]
    random: Array  # [set prompt]
    matched: statistics.MatchedSets

    def cause(self, rule: Rule, prompts: slice | list[int]) -> records.Cause:
        """The causal evidence over the given prompts."""
        mine, others = self.selected[prompts], self.random[:, prompts].mean(1)
        low, high = statistics.interval(mine)
        share, p = statistics.exceeds(float(mine.mean()), [float(other) for other in others])
        return records.Cause(
            intervention=rule.cause.intervention,
            direction=rule.cause.direction,
            n=len(mine),
            effect=float(mine.mean()),
            low=float(low),
            high=float(high),
            matching=self.matched.matching,
            distinct_sets=self.matched.distinct,
            random_effects=[float(other) for other in others],
            share_exceeded=share,
            p=p,
            alone=[
                records.HeadEffect(head=head, effect=float(effect[prompts].mean()))
                for head, effect in self.alone.items()
            ],
            passed=bool(low > 0 and share > rule.cause.percentile and len(others) >= statistics.ENOUGH_SETS),
        )


def _effects(
    script: Script,
    rule: Rule,
    model: OpenModel,
    task: Drawn,
    selected: Sequence[str],
    plain: Array,
    seed: int,
    report: Report,
) -> Effects | None:
    """Ablate the selected heads together, each alone, and the matched random sets."""
    heads = [Head.parse(head) for head in selected]
    if not heads:
        return None
    matched = statistics.matched_sets(heads, model.anatomy.layers, model.anatomy.heads, seed)
    if not matched.sets:
        return None
    sets: list[Sequence[Head]] = [heads, *([head] for head in heads), *matched.sets]
    step = _counter(report, "ablations", len(sets) * len(task.prompts))
    values = ablate_sets(
        model, task.prompts, script.behaviour, sets, rule.cause.intervention, contrast=script.contrast, progress=step
    )
    change = (plain - values) if rule.cause.direction == "decrease" else (values - plain)  # [set prompt]
    alone = dict(zip(selected, change[1 : 1 + len(heads)], strict=True))
    return Effects(change[0], alone, change[1 + len(heads) :], matched)


# --- literature and stability ---------------------------------------------------------------------------------


def catalog_id(catalog: Catalog, model: OpenModel) -> str | None:
    """The catalog's id of this model: its name where headatlas ships it, else found by hub id or by its weights."""
    if model.name in specimens.names():
        return model.name if model.name in catalog.models else None
    for known in catalog.models.values():
        if model.sha256 == known.sha256 or (model.revision is not None and model.name in known.hub):
            return known.id
    return None


def _literature(detection: records.Detection, findings: Sequence[Finding]) -> records.Literature:
    layers, heads = len(detection.score), len(detection.score[0])
    reported = {str(h) for f in findings if f.stance == "supports" for h in f.heads}
    shared = reported & set(detection.selected)
    p = None
    if reported:
        p = statistics.overlap_p(len(detection.selected), len(reported), len(shared), layers * heads)
    return records.Literature(
        findings=[_compare(detection, finding) for finding in findings],
        reported_heads=sorted(reported, key=Head.parse),
        shared=sorted(shared, key=Head.parse),
        overlap_p=p,
    )


def _compare(detection: records.Detection, finding: Finding) -> records.Compared:
    measured = agrees = None
    if finding.tolerance is not None and finding.value is not None:
        head = finding.heads[0]
        measured = detection.score[head.layer][head.head]
        agrees = abs(measured - finding.value) <= finding.tolerance
    return records.Compared(
        finding=finding.id,
        source=finding.source,
        heads=[str(head) for head in finding.heads],
        reported=finding.value,
        measured=measured,
        tolerance=finding.tolerance,
        agrees=agrees,
    )


def _families(
    script: Script,
    rule: Rule,
    found: Mapping[Split, Scores],
    stimuli: Mapping[Split, Drawn],
    plain: Array,
    task: Drawn,
    detection: records.Detection,
    effects: Effects | None,
    findings: Sequence[Finding],
) -> dict[str, records.VerdictLabel]:
    """The verdict within each family: its own behaviour, its own detection, the cause on its own prompts.

    Cause is that of the heads selected over all families, measured on the family's prompts.
    """
    labels: dict[str, records.VerdictLabel] = {}
    for family in script.families:
        prompts = [number for number, name in enumerate(task.families) if name == family]
        own = detection
        if stimuli:
            units = {
                split: [number for number, name in enumerate(drawn.families) if name == family]
                for split, drawn in stimuli.items()
            }
            own = _detection(rule, found, units)
        cause = effects.cause(rule, prompts) if effects else None
        labels[family] = verdict.judge(_behaviour(rule, plain[prompts]), own, cause, _literature(own, findings)).label
    return labels


# --- what is recorded about the run ---------------------------------------------------------------------------


def _stimuli(script: Script, words: Vocabulary, drawn: Sequence[Drawn]) -> records.Stimuli:
    digest = hashlib.sha256()
    for each in drawn:
        for prompt in each.prompts:
            digest.update(repr((prompt.tokens, prompt.control, prompt.pairs, prompt.control_pairs)).encode())
            digest.update(repr(prompt.readouts).encode())
    return records.Stimuli(
        sha256=digest.hexdigest(),
        families=script.families,
        bos=f"every prompt starts with token {words.bos[0]}" if words.bos else "none: the tokenizer has no BOS",
    )


def _model_record(model: OpenModel, known: str | None) -> records.ModelRecord:
    return records.ModelRecord(
        id=model.id,
        name=Path(model.name).name if Path(model.name).is_dir() else model.name,
        revision=model.revision,
        sha256=model.sha256,
        architecture=type(model.model).__name__,
        layers=model.anatomy.layers,
        heads=model.anatomy.heads,
        kv_heads=model.anatomy.kv_heads,
        d_head=model.anatomy.d_head,
        catalog_id=known,
    )


def _environment(model: OpenModel, seed: int, started: datetime, seconds: float) -> records.Environment:
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
