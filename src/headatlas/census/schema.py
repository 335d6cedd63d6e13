"""What a census says, as JSON with a versioned schema: types, heads, key/value groups, and how it came about."""

from html import escape
from typing import Literal

from pydantic import Field, model_validator

from headatlas.catalog.collections import table
from headatlas.evidence.record_parts import Grid, ModelRecord, Number, RecordPart, require_fit
from headatlas.evidence.records import Behaviour, Cause, Entry, Environment

SCHEMA_VERSION: Literal[1] = 1
Causal = Literal["supported", "not supported", "not tested"]


class CensusSettings(RecordPart):
    """What was asked for. Two censuses with equal settings, model and entries have equal numbers.

    `prompts` is the most of each family that was drawn, and `cause_prompts` that the cause was measured on; None where
    the rule of each entry decides. Where the model has the behaviour, and that is too few to tell whether a head that
    reaches the threshold exceeds its control, more are drawn, at most as many as the rule says; and all of them for
    scores that are fitted to all prompts, as a probe's are. `random_sets` is the most that the cause is compared with.
    """

    budget: Literal["quick", "full"]
    prompts: int | None
    cause_prompts: int | None
    seed: int
    cause: bool
    random_sets: int
    types: list[str]


class Work(RecordPart):
    """Runs of the model, and the tokens it read in them; a share of those that several types used together."""

    passes: Number
    tokens: Number
    seconds: Number


class Tested(RecordPart):
    """What intervening on the strongest candidates of a type, together, does against matched random sets of heads."""

    heads: list[str]
    figures: Cause


class TypeResult(RecordPart):
    """One head type on this model.

    `find`, `find_control` and `q` are [layer][head], on the prompts that select heads; q is corrected over all heads
    and all types that were measured. Where the type was not measured they are None, and `reason` says why.
    """

    id: str
    name: str
    stage: str
    status: Literal["measured", "untestable", "left out", "failed"]
    reason: str | None
    entry: Entry
    metric: str
    threshold: Number
    fdr: Number
    n_find: int | None
    n_test: int | None
    find: Grid | None
    find_control: Grid | None
    q: Grid | None
    behaviour: Behaviour | None
    heads: list[str]  # labelled, best first
    did_not_hold: list[str] = Field(default_factory=list)  # selected, but held-out prompts did not bear them out
    causal: Causal
    causal_why: str
    tested: Tested | None
    mean_depth: Number | None  # of the heads labelled
    work: Work


class Label(RecordPart):
    """A type that a head is. Selected by `selected_on` and q; score, interval and control are of held-out prompts.

    A name must hold on those: there too its score reaches the type's threshold and exceeds its control.

    `behaviour` is whether the model can do what the type is for; where it cannot, the label says only how the head
    scores. `alone` is the effect of intervening on this head alone, where it was among the strongest.
    """

    type: str
    stage: str
    score: Number
    low: Number
    high: Number
    control: Number
    selected_on: Number
    q: Number
    behaviour: bool
    causal: Causal
    alone: Number | None


class HeadResult(RecordPart):
    """One query head, its key/value group, how deep it lies (0 the first layer, 1 the last), and its labels.

    Layers carry the model's own number, so that those of a hybrid which have no attention have no heads here.

    The label that the fewest heads of the model carry comes first. No labels means unknown: no catalogued type that
    could be measured. `did_not_hold` are names for which the head was selected, and that held-out prompts did not bear
    out: it has none of them, and none is counted, drawn or exported.
    """

    head: str
    layer: int
    index: int
    group: int
    depth: Number
    labels: list[Label]
    did_not_hold: list[Label] = Field(default_factory=list)


class GroupLabel(RecordPart):
    """A type of a key/value group: that of any of its query heads, scored as the best of them."""

    type: str
    stage: str
    heads: list[str]
    score: Number
    causal: Causal


class GroupResult(RecordPart):
    """One key/value group of a layer, with the query heads that read it."""

    layer: int
    group: int
    heads: list[str]
    depth: Number
    labels: list[GroupLabel]


class StageSummary(RecordPart):
    """The labels of one stage of the survey: how many, on how many heads, and how deep the heads lie, with a 95% CI."""

    stage: str
    short: str
    name: str
    types: int
    labels: int
    heads: int
    mean_depth: Number | None
    low: Number | None
    high: Number | None


class Summary(RecordPart):
    """The census in a few numbers; `did_not_hold` are names that heads were selected for, and do not have."""

    heads: int
    labelled: int
    unknown: int
    unknown_share: Number
    types_measured: int
    types_found: int
    types_supported: int
    did_not_hold: int = 0
    stages: list[StageSummary]


class Census(RecordPart):
    """Every head of one model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: ModelRecord
    settings: CensusSettings
    environment: Environment
    summary: Summary
    types: list[TypeResult]
    heads: list[HeadResult]
    groups: list[GroupResult]

    @model_validator(mode="after")
    def _grids_fit(self) -> "Census":
        for each in self.types:
            require_fit(self.model, (each.find, each.find_control, each.q), (*each.heads, *each.did_not_hold))
        if [head.head for head in self.heads] != [str(head) for head in self.model.every_head]:
            raise ValueError("its heads are not those of its model")
        return self

    def __repr__(self) -> str:
        counted = self.summary
        return (
            f"<census of {self.model.name}: {counted.labelled} of {counted.heads} heads have a name, "
            f"{counted.types_found} of {counted.types_measured} types found>"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """A row for each type found: its heads, the strongest first, and whether they matter."""
        rows = [
            (each.id, len(each.heads), ", ".join(each.heads[:6]) + (" …" if len(each.heads) > 6 else ""), each.causal)
            for each in self.types
            if each.heads
        ]
        return f"<p>{escape(repr(self)[1:-1])}</p>" + table(("type", "heads", "best first", "causal effect"), rows)
