"""One type that is being measured for a census."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import HeadType, Rule
from headatlas.census.cache import CacheKey, Status, TypePart, TypeScores, key_of
from headatlas.census.schema import CensusSettings, Tested, Work
from headatlas.evidence.record_parts import ModelRecord
from headatlas.evidence.records import Behaviour
from headatlas.lab import OpenModel, Scores
from headatlas.protocol.assess import Selection
from headatlas.protocol.draw_stimuli import DrawnStimuli, draw
from headatlas.protocol.provenance import environment
from headatlas.protocol.script import Script, Split, load_script


@dataclass(frozen=True)
class Ending:
    """How a job ended: the fields of its result that no other step fills in."""

    status: Status
    reason: str | None
    scores: TypeScores | None = None
    tested: Tested | None = None
    causal_why: str = "not measured"


@dataclass
class Job:
    """One type that is being measured; each step fills in what it found.

    Attributes:
        key: what a cached result must match.
        script, rule: of the entry.
        started: when.
        work: passes, tokens and seconds so far.
        stimuli: the prompts.
        behaviour: of the model on the task.
        scores: of all heads, by split.
        selection: what the prompts that select heads say.
        ending: how the job ended, once it has.
    """

    key: CacheKey
    script: Script
    rule: Rule
    started: datetime
    work: Work = field(default_factory=lambda: Work(passes=0, tokens=0, seconds=0))
    stimuli: DrawnStimuli | None = None
    behaviour: Behaviour | None = None
    scores: dict[Split, Scores] = field(default_factory=dict)
    selection: Selection | None = None
    ending: Ending | None = None

    def drawn(self) -> DrawnStimuli:
        """The prompts, which have been drawn."""
        assert self.stimuli
        return self.stimuli

    def draw(self, model: OpenModel, prompts: int | None = None) -> None:
        """Draw the prompts: `prompts` of each family, or as many as the settings say.

        Raises:
            UntestableError: where the tokenizer cannot express them, or they do not fit the context.
        """
        settings = self.key.settings
        self.stimuli = draw(self.script, self.rule, model, settings.seed, prompts or settings.prompts)

    def part(self, model: OpenModel) -> TypePart:
        """The result of a job that has ended."""
        assert self.ending
        settings = self.key.settings
        return TypePart(
            entry=self.key.entry,
            model=self.key.model,
            settings=settings,
            environment=environment(model, settings.seed, self.started, self.work.seconds),
            status=self.ending.status,
            reason=self.ending.reason,
            scores=self.ending.scores,
            behaviour=self.behaviour,
            tested=self.ending.tested,
            causal_why=self.ending.causal_why,
            work=self.work,
        )


def start(catalog: Catalog, id: str, model: ModelRecord, settings: CensusSettings) -> Job:
    """A job that measures one type."""
    entry: HeadType = catalog.heads[id]
    assert entry.rule
    return Job(key_of(catalog, id, model, settings), load_script(id, rule=entry.rule), entry.rule, datetime.now(UTC))
