"""How much is asked of a model: the number of prompts and of random sets, in a run as in a census.

A quick budget goes by the model's size alone, so that the same command asks the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headatlas.evidence import statistics
from headatlas.evidence.sequential import ENOUGH_SETS

if TYPE_CHECKING:
    from headatlas.catalog.schema import Rule
    from headatlas.lab import OpenModel

Budget = Literal["quick", "full"]
SMALL = 20_000_000  # parameters without embeddings; above it a quick budget asks less


@dataclass(frozen=True)
class Amount:
    """How many prompts and interventions. None means what the rule of each entry says.

    Attributes:
        prompts: the most of each family, for detection and behaviour.
        cause_prompts: the most of each family, for the cause.
        random_sets: the most random sets that the cause is compared with.
        alone: how many heads, from the best, are intervened on alone.
    """

    prompts: int | None
    cause_prompts: int | None
    random_sets: int
    alone: int

    def drawn(self, rule: Rule) -> int | None:
        """The most prompts of each family for one entry: all that its rule says where the score is fitted to them."""
        return None if rule.detection.fitted else self.prompts


FULL = Amount(None, None, statistics.RANDOM_SETS, alone=20)
QUICK_SMALL = Amount(8, 8, ENOUGH_SETS, alone=3)
QUICK_LARGE = Amount(4, 4, ENOUGH_SETS, alone=1)


def first_third(count: int) -> int:
    """How many of the prompts of a family an intervention reads first: a third, rounded up."""
    return -(-count // 3)


def parameters(model: OpenModel) -> int:
    """Weights of a model without its embeddings, counted once."""
    embeddings = {id(each.weight) for each in (model.model.get_input_embeddings(), model.model.get_output_embeddings())}
    return sum(each.numel() for each in model.model.parameters() if id(each) not in embeddings)


def amount_of(budget: Budget, size: int) -> Amount:
    """The amounts of a budget for a model of a size, as `parameters` counts."""
    if budget == "full":
        return FULL
    return QUICK_SMALL if size < SMALL else QUICK_LARGE
