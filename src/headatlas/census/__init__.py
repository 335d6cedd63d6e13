"""The census: every head of a model, with every catalogued type that it is.

budget       how many prompts and random sets, by the size of the model
job          one type that is being measured
measuring    the steps of a measurement
running      many types on an open model, resumed
parallel     a model by its name, in shards, on several processes
cache        the measurements of one type, as a file
reusable     an earlier census of the same model
planning     an estimate of the cost
labelling    from the measurements of all types to the types of each head
summary      key/value groups, stages, depths
schema       the JSON of a census
reading      reading it
page         HTML and CSV
exchange     head sets in the formats of other tools
comparing    two models, or many
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headatlas.census.comparing import Difference, Transfer
    from headatlas.census.schema import Census
    from headatlas.lab import OpenModel
    from headatlas.protocol.budget import Budget

__all__ = ["compare", "recorded", "take", "transfer"]


def take(
    model: str | Path | OpenModel = "specimen",
    types: Iterable[str] | None = None,
    budget: Budget = "quick",
    prompts: int | None = None,
    cause: bool = True,
    seed: int = 0,
    folder: Path | None = None,
) -> Census:
    """Name every head of a model.

    Args:
        model: one that is open, or whatever `headatlas.lab.open_model` opens.
        types: names or ids of head types; by default all that have a reproduction.
        budget: 'quick', or 'full' for as many prompts and random sets as the rules of the entries ask.
        prompts: of each family, instead of what the budget says.
        cause: whether to intervene on the heads found.
        seed: of the stimuli.
        folder: where parts are kept, so that an interrupted census goes on.

    Raises:
        HeadatlasError: where the model cannot be opened, or there are no such types.
    """
    from headatlas import load
    from headatlas.census import labelling, running
    from headatlas.census.budget import resolve_settings
    from headatlas.lab import OpenModel, open_model
    from headatlas.protocol.budget import parameters

    catalog = load()
    opened = model if isinstance(model, OpenModel) else open_model(model)
    try:
        settings = resolve_settings(catalog, parameters(opened), budget, prompts, types, cause, seed)
        plan = running.plan_of(catalog, opened, settings)
        return labelling.census_of(catalog, plan, running.measure_types(catalog, opened, plan, folder))
    finally:
        if opened is not model:
            opened.close()


def recorded(folder: Path | None = None) -> list[Census]:
    """The censuses that ship with headatlas, or those in another folder, by model."""
    from headatlas.census import reading

    return reading.recorded(folder)


def compare(first: Census, second: Census) -> list[Difference]:
    """The same types in two models: counts, depth, and what is missing.

    Raises:
        HeadatlasError: where the censuses have no type in common.
    """
    from headatlas.census import comparing

    return comparing.compare(first, second)


def transfer(censuses: Sequence[Census]) -> list[Transfer]:
    """How far each type carries over from model to model."""
    from headatlas.census import comparing

    return comparing.transfer(censuses)
