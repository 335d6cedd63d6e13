"""How much a census asks of a model: settled by the model's size alone, so that shards on any machines agree."""

from __future__ import annotations

from collections.abc import Iterable

from headatlas.catalog.catalog import Catalog
from headatlas.census.schema import CensusSettings
from headatlas.errors import HeadatlasError
from headatlas.protocol.budget import Budget, amount_of


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
        size: of the model, as `headatlas.protocol.budget.parameters` counts.
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
    amount = amount_of(budget, size)
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
