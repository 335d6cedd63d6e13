"""How much a census asks of a model: settled by the model's size alone, so that shards on any machines agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import CensusSettings
from headatlas.errors import HeadatlasError
from headatlas.evidence import statistics

if TYPE_CHECKING:
    from headatlas.lab import OpenModel

Budget = Literal["quick", "full"]
SMALL = 20_000_000  # parameters without embeddings; above it a quick census asks less


@dataclass(frozen=True)
class Amount:
    """Prompts of each family for detection and behaviour, and for the cause; random sets to hold the cause against.

    None means what the rule of each entry says.
    """

    prompts: int | None
    cause_prompts: int | None
    random_sets: int


FULL = Amount(None, None, statistics.RANDOM_SETS)
QUICK_SMALL = Amount(8, 6, 24)
QUICK_LARGE = Amount(4, 4, 24)


def parameters(model: OpenModel) -> int:
    """Weights of a model without its embeddings, counted once."""
    embeddings = {id(each.weight) for each in (model.model.get_input_embeddings(), model.model.get_output_embeddings())}
    return sum(each.numel() for each in model.model.parameters() if id(each) not in embeddings)


def resolve_settings(
    catalog: Catalog,
    size: int,
    budget: Budget = "quick",
    prompts: int | None = None,
    types: Iterable[str] | None = None,
    cause: bool = True,
    seed: int = 0,
) -> CensusSettings:
    """The settings of a census.

    Args:
        catalog: whose types are measured.
        size: of the model, as `parameters` counts.
        budget: 'quick', or 'full' for as many prompts and random sets as the rules of the entries ask.
        prompts: of each family, instead of what the budget says; types whose score is fitted take what their rule asks.
        types: names or ids of the types; by default all that have a rule.
        cause: whether to intervene on the strongest candidates.
        seed: of the stimuli.

    Raises:
        HeadatlasError: for types without a reproduction, or too few prompts.
    """
    if prompts is not None and prompts < 2:
        raise HeadatlasError("--prompts must be at least 2: an interval needs more than one")
    amount = FULL if budget == "full" else QUICK_SMALL if size < SMALL else QUICK_LARGE
    wanted = {catalog.head(name).id for name in types} if types is not None else None
    if wanted is not None and (missing := sorted(id for id in wanted if catalog.heads[id].rule is None)):
        raise HeadatlasError(
            f"no reproduction yet for {', '.join(missing)}; `headatlas list --reproduction` says which"
        )
    if wanted is not None and not wanted:
        raise HeadatlasError("no types to look for; give at least one with --types")
    return CensusSettings(
        budget=budget,
        prompts=prompts or amount.prompts,
        cause_prompts=amount.cause_prompts if prompts is None else min(prompts, amount.cause_prompts or prompts),
        seed=seed,
        cause=cause,
        random_sets=amount.random_sets,
        types=[id for id, entry in catalog.heads.items() if entry.rule and (wanted is None or id in wanted)],
    )
