"""What a census of a model would measure, and a census taken in this process."""

from pathlib import Path
from typing import Any

import headatlas
from headatlas.census import budget, labelling, running
from headatlas.census.cache import Plan
from headatlas.census.schema import Census
from headatlas.lab import OpenModel
from headatlas.protocol.budget import parameters

CATALOG = headatlas.load()


def plan_of(model: OpenModel, types: Any = None, prompts: int | None = None, cause: bool = False) -> Plan:
    settings = budget.resolve_settings(CATALOG, parameters(model), "quick", prompts, types, cause)
    return running.plan_of(CATALOG, model, settings)


def taken(model: OpenModel, plan: Plan, folder: Path | None = None) -> Census:
    return labelling.census_of(CATALOG, plan, running.measure_types(CATALOG, model, plan, folder))
