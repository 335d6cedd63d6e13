"""How a finding is rerun: what it takes, the rule of its verdict, and what we expect before running."""

from typing import Literal

from pydantic import Field, model_validator

from headatlas.catalog.schema.base import Day, ModelId, Strict, Text, VerdictLabel
from headatlas.notation import Head


class BehaviourRule(Strict):
    """Can the model do the task at all? Passed when the lower end of the interval beats chance and `minimum`."""

    metric: Text
    unit: Text
    chance: float
    minimum: float


class DetectionRule(Strict):
    """Which heads count as found: score above `threshold`, and above the control at `fdr` over all heads."""

    metric: Text
    threshold: float
    threshold_why: Text
    fdr: float = Field(0.05, gt=0, lt=1)
    fitted: bool = Field(
        False,
        description="Whether the score of a prompt rests on a fit to the others, as a probe's does. On few prompts a "
        "fit is right by chance in some head, so that a census draws as many as the rule asks.",
    )


class CauseRule(Strict):
    """What intervening on the found heads must do to the behaviour."""

    intervention: Literal["zero", "mean", "resample", "steer", "patch"] = Field(
        description="What z of the found heads becomes; steer and patch are spelled out in the script."
    )
    direction: Literal["decrease", "increase"]
    percentile: float = Field(95.0, ge=50, lt=100, description="Share of matched random sets it must exceed.")


class Rule(Strict):
    """The rule of the verdict, fixed before running. A change is a new version, with its reason in `history`."""

    version: int = Field(ge=1)
    fixed: Day
    find: int = Field(ge=8, description="Stimuli per family that select heads.")
    test: int = Field(ge=8, description="Stimuli per family, from other seeds, that test them.")
    behaviour: BehaviourRule
    detection: DetectionRule
    cause: CauseRule
    history: tuple[Text, ...] = ()


class Expectation(Strict):
    """What we expect on a model, written before the run."""

    model: ModelId
    verdict: VerdictLabel
    heads: tuple[Head, ...] = ()
    why: Text


class Reproduction(Strict):
    """What rerunning the finding takes and, where `reproductions/<id>.py` exists, its rule."""

    needs: Text = Field(description="What a rerun needs: of the model, of the data, of the method.")
    smallest_model: ModelId | None = Field(None, description="The smallest open model on which it is plausible.")
    smallest_why: Text = Field(description="Why that model, or why no open model is known to do.")
    rule: Rule | None = Field(None, description="Fixed before the first run; absent while there is no script.")
    expected: tuple[Expectation, ...] = ()

    @model_validator(mode="after")
    def _rule_first(self) -> "Reproduction":
        if self.expected and self.rule is None:
            raise ValueError("`expected:` speaks of a run; fix the `rule:` first")
        return self
