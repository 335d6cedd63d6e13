"""Run records: what a run measured, as JSON with a versioned schema."""

from html import escape
from typing import Literal

from pydantic import Field, model_validator

from headatlas.catalog.schema import VerdictLabel
from headatlas.evidence.record_parts import Grid, ModelRecord, Number, RecordPart, is_none, require_fit
from headatlas.evidence.sequential import ENOUGH_SETS
from headatlas.notation import Head

SCHEMA_VERSION: Literal[1] = 1


class Entry(RecordPart):
    """The entry that was rerun.

    Attributes:
        script_sha256: hash of the script's code, without comments, docstrings and layout.
        stimuli_sha256: hash of the code that draws the stimuli.
        measurement: version of the code that measures (`headatlas.protocol.freshness.MEASUREMENT`); older records have
            none.
    """

    id: str
    rule_version: int
    script_sha256: str
    stimuli_sha256: str | None = None
    measurement: int | None = Field(default=None, exclude_if=is_none)


class Stimuli(RecordPart):
    """What the model read; `sha256` is over all tokens of all prompts, `chat` says whose template a chat is in."""

    sha256: str
    families: list[str]
    bos: str
    chat: str | None = None


class Environment(RecordPart):
    """The software, device and seed of a run.

    Attributes:
        budget: 'quick' for few prompts and random sets, 'full' for as many as the rule says. Older records have none;
            they are full. The settings of a census say its budget.
    """

    headatlas: str
    python: str
    torch: str
    transformers: str
    numpy: str
    device: str
    dtype: str
    attention: str
    threads: int
    seed: int
    started: str
    seconds: Number
    peak_memory_mb: Number
    budget: Literal["quick", "full"] | None = Field(default=None, exclude_if=is_none)


class Behaviour(RecordPart):
    """Can the model do the task? `passed` if `low` exceeds chance and the rule's minimum."""

    metric: str
    unit: str
    value: Number
    low: Number
    high: Number
    chance: Number
    minimum: Number
    n: int
    passed: bool


class Detection(RecordPart):
    """A score per head. The `find` stimuli select heads; all other numbers are from the held-out `test` stimuli.

    `selected` are the heads found: selected on `find`, and above the threshold and the null on `test` too.
    `did_not_hold` are the heads that were selected and failed on `test`. `control`, `find_control` are the null of the
    score.
    """

    metric: str
    threshold: Number
    fdr: Number
    null: str
    n_find: int
    n_test: int
    find: Grid
    find_control: Grid
    q: Grid
    score: Grid
    low: Grid
    high: Grid
    control: Grid
    sink_normalised: Grid | None
    selected: list[str]
    did_not_hold: list[str] = Field(default_factory=list)

    @property
    def best(self) -> float:
        """The largest score on the selecting stimuli."""
        return max(score for row in self.find for score in row)

    @property
    def undecided(self) -> bool:
        """True if a head reaches the threshold but not significantly: more stimuli are needed."""
        pairs = zip(self.find, self.q, strict=True)
        return any(
            score >= self.threshold and q > self.fdr
            for scores, qs in pairs
            for score, q in zip(scores, qs, strict=True)
        )

    @property
    def unsettled(self) -> bool:
        """True if the interval of a head that failed reaches above the threshold and the null."""
        places = [Head.parse(head) for head in self.did_not_hold]
        return any(
            self.high[layer][head] >= self.threshold and self.high[layer][head] > self.control[layer][head]
            for layer, head in places
        )


class HeadEffect(RecordPart):
    """The effect of an intervention on one head. Backup heads can hide this effect."""

    head: str
    effect: Number


class Cause(RecordPart):
    """The effect of ablating all heads found on the behaviour, compared with matched random sets.

    Of at most `planned_sets` random sets, `random_effects` lists those drawn until the answer stood, and `stopped` says
    why no more were drawn; of `planned_n` prompts, `n` were read. `on_a_third` of the random sets were told from the
    heads found by the first third of the prompts; the effect of such a set is that of the heads found on all `n`
    prompts, minus the mean difference on that third. Older records drew and read all of them, and lack these fields.
    """

    intervention: str
    direction: Literal["decrease", "increase"]
    n: int
    planned_n: int | None = None
    effect: Number
    low: Number
    high: Number
    matching: Literal["layer", "size"]
    distinct_sets: int
    planned_sets: int | None = None
    random_effects: list[Number]
    on_a_third: int = 0
    stopped: str = ""
    share_exceeded: Number
    p: Number
    alone: list[HeadEffect]
    passed: bool

    @property
    def too_few_sets(self) -> bool:
        """Whether fewer random sets could be drawn than can show a cause; not where the drawing stopped early."""
        return (self.planned_sets or len(self.random_effects)) < ENOUGH_SETS


class Compared(RecordPart):
    """A finding of the literature about this very model, and our measurement."""

    finding: str
    source: str
    heads: list[str]
    reported: Number | None
    measured: Number | None
    tolerance: Number | None
    agrees: bool | None


class Literature(RecordPart):
    """Agreement with papers; empty if papers have no finding about this model."""

    findings: list[Compared] = Field(default_factory=list)
    reported_heads: list[str] = Field(default_factory=list)
    shared: list[str] = Field(default_factory=list)
    overlap_p: Number | None = None


class Stability(RecordPart):
    """The verdict within each prompt family, and for each seed run."""

    families: dict[str, VerdictLabel]
    seeds: dict[str, VerdictLabel]


class Verdict(RecordPart):
    """The label and its reasons."""

    label: VerdictLabel
    reasons: list[str]


class Record(RecordPart):
    """One run of one reproduction on one model. `cause` is None if there was no causal test."""

    schema_version: Literal[1] = SCHEMA_VERSION
    entry: Entry
    model: ModelRecord
    stimuli: Stimuli | None
    environment: Environment
    behaviour: Behaviour | None
    detection: Detection | None
    cause: Cause | None
    literature: Literature
    stability: Stability
    verdict: Verdict

    @model_validator(mode="after")
    def _grids_fit(self) -> "Record":
        if found := self.detection:
            grids = (found.find, found.find_control, found.q, found.score, found.low, found.high, found.control)
            require_fit(self.model, (*grids, found.sink_normalised), (*found.selected, *found.did_not_hold))
        return self

    @property
    def budget(self) -> Literal["quick", "full"]:
        """Whether few prompts and random sets were drawn, or as many as the rule says."""
        return self.environment.budget or "full"

    @property
    def selected(self) -> list[Head]:
        """The heads found: selected on some prompts, and passed on other prompts."""
        return [Head.parse(head) for head in self.detection.selected] if self.detection else []

    def __repr__(self) -> str:
        found = f", {len(self.selected)} heads" if self.detection else ""
        return f"<record of {self.entry.id} in {self.model.name}: {self.verdict.label}{found}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.verdict.reasons)
        named = f"{escape(self.entry.id)} in {escape(self.model.name)}"
        return f"<p>{named}: <b>{self.verdict.label}</b></p><ul>{reasons}</ul>"
