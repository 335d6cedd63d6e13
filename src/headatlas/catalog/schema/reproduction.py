"""How to rerun a finding: what a rerun needs, the rule of the verdict, and what we expect before the run."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from headatlas.catalog.schema.base import Day, ModelId, Strict, Text, VerdictLabel
from headatlas.notation import Head

Layers = Annotated[str, StringConstraints(pattern=r"^([0-9]+(-[0-9]+)?(, [0-9]+(-[0-9]+)?)*)?$")]


class BehaviourRule(Strict):
    """Can the model do the task at all? Passes if the lower end of the interval exceeds chance and `minimum`."""

    metric: Text
    unit: Text
    chance: float
    minimum: float


class DetectionRule(Strict):
    """Which heads count as found: score at least `threshold`, and above the null at `fdr` over all heads."""

    metric: Text
    threshold: float
    threshold_why: Text
    fdr: float = Field(0.05, gt=0, lt=1)
    fitted: bool = Field(
        False,
        description="True if the score of a prompt depends on a fit to the other prompts, e.g. for a probe. On few "
        "prompts some head fits by chance, so a census draws as many prompts as the rule asks.",
    )


class CauseRule(Strict):
    """How an intervention on the heads found must change the behaviour."""

    intervention: Literal["zero", "mean", "resample", "steer", "patch"] = Field(
        description="What replaces z of the heads found; the script defines steer and patch."
    )
    direction: Literal["decrease", "increase"]
    percentile: float = Field(
        95.0, ge=50, lt=100, description="Share of matched random sets that the effect must exceed."
    )


class Rule(Strict):
    """The rule of the verdict, fixed before the run. Every change is a new version, with a reason in `history`."""

    version: int = Field(ge=1)
    fixed: Day
    find: int = Field(ge=8, description="Stimuli per family that select heads.")
    test: int = Field(ge=8, description="Stimuli per family, from other seeds, that test these heads.")
    behaviour: BehaviourRule
    detection: DetectionRule
    cause: CauseRule
    history: tuple[Text, ...] = ()


class Expectation(Strict):
    """The verdict we expect on a model, written before the run."""

    model: ModelId
    verdict: VerdictLabel
    heads: tuple[Head, ...] = ()
    layers: Layers = Field("", description="In which layers the heads that are found should be, as `2-29` or `5, 11`.")
    why: Text

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The expected layers one by one; empty if none are named."""
        spans = [[int(end) for end in span.split("-")] for span in self.layers.split(", ") if span]
        return tuple(layer for span in spans for layer in range(span[0], span[-1] + 1))

    @property
    def layers_text(self) -> str:
        """`layer 5` or `layers 2 to 29`."""
        return ("layers " if len(self.layer_numbers) > 1 else "layer ") + self.layers.replace("-", " to ")

    def in_layers(self, heads: Iterable[Head]) -> int:
        """How many of some heads are in the expected layers."""
        return sum(head.layer in self.layer_numbers for head in heads)


class Explanation(Strict):
    """Why a run gave something else than papers hold to be general, for a model that has the behaviour."""

    model: ModelId
    lies_in: Literal["model", "rule", "script", "stimuli", "open"] = Field(
        description="model: it does the task in another way; rule: the finding holds, in a form weaker than the rule "
        "asks; script, stimuli: these were at fault, and are corrected; open: not found out."
    )
    why: Text = Field(description="Two or three sentences with the figures.")
    shown_by: Text = Field(description="The command that prints these figures.")


class Reproduction(Strict):
    """What a rerun of the finding needs and, if `reproductions/<id>.py` exists, its rule."""

    needs: Text = Field(description="What a rerun needs: of the model, of the data, of the method.")
    smallest_model: ModelId | None = Field(
        None, description="The smallest open model on which the finding is plausible."
    )
    smallest_why: Text = Field(description="Why this model, or why no known open model suffices.")
    rule: Rule | None = Field(None, description="Fixed before the first run; absent while there is no script.")
    expected: tuple[Expectation, ...] = ()
    explained: tuple[Explanation, ...] = ()

    @model_validator(mode="after")
    def _rule_first(self) -> "Reproduction":
        if self.expected and self.rule is None:
            raise ValueError("`expected:` needs a `rule:`; write the rule first")
        return self
