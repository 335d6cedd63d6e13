"""Checks one entry, step by step: its file, its script, its prompts, a small run."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headatlas import locations
from headatlas.catalog.catalog import Catalog
from headatlas.catalog.loading import check, reproductions_of
from headatlas.catalog.schema import HeadType, Rule
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel, open_model
from headatlas.notation import Head
from headatlas.protocol import script_check
from headatlas.protocol.draw_stimuli import DrawnStimuli, draw
from headatlas.protocol.interventions import measure_effects
from headatlas.protocol.measure import measure_behaviour, measure_scores
from headatlas.protocol.script import Script, load_script
from headatlas.protocol.script_faults import failed

PROMPTS = 2  # of each family, in the small run
_SETS = 19  # random sets, as many as a quick run compares with


class Step(NamedTuple):
    """One step: its name, whether it passed, and what was found, a line each."""

    name: str
    passed: bool
    said: tuple[str, ...]


def steps(id: str, model: str = "specimen", folder: Path | None = None) -> Iterator[Step]:
    """Check an entry, its script, its prompts, and a run on two prompts of each family; ends with the first failure.

    Args:
        id: of the head type.
        model: to draw prompts for, and to run on.
        folder: of the catalog; that of the project by default.

    Raises:
        HeadatlasError: for an unknown id, or a model that cannot be opened.
    """
    scripts = reproductions_of(folder or locations.catalog())
    entry, found = _entry(id, folder, scripts)
    yield found
    if entry is None or not found.passed:
        return
    if entry.rule is None:
        yield Step("script", True, ("none yet: the entry has no rule",))
        return
    try:
        script = load_script(id, scripts, entry.rule)
    except HeadatlasError as error:
        yield Step("script", False, (str(error),))
        return
    yield Step("script", True, (f"{script.path} imports; families: {', '.join(script.families)}",))
    with open_model(model) as opened:
        yield from _tried(script, entry.rule, opened)


def _entry(id: str, folder: Path | None, scripts: Path) -> tuple[HeadType | None, Step]:
    """The entry, and what is wrong with its file and its script; problems of other files are only counted."""
    catalog, problems = check(folder)
    if catalog is not None:
        problems += script_check.scripts(catalog, scripts)
    mine = [each for each in problems if Path(each.file).stem == id]
    others = len(problems) - len(mine)
    more = (f"{others} problem{'s' * (others > 1)} in other files; headatlas validate lists all",) if others else ()
    if mine or catalog is None:
        return None, Step("entry", False, (*map(str, mine), *more))
    entry = catalog.head(id)
    return entry, Step("entry", True, (_about(catalog, entry), *more))


def _about(catalog: Catalog, entry: HeadType) -> str:
    stage = catalog.taxonomy.stage(entry.stage)
    rule = f"rule version {entry.rule.version}" if entry.rule else "no rule"
    return f"heads/{entry.id}.yaml is valid: {stage.name}, {entry.status}, {len(entry.findings)} findings, {rule}"


def _tried(script: Script, rule: Rule, model: OpenModel) -> Iterator[Step]:
    try:
        drawn = draw(script, rule, model, seed=0, prompts=None if rule.detection.fitted else PROMPTS)
    except Exception as error:  # whatever a script raises is the author's to know
        yield Step("stimuli", False, (failed(error, script.path),))
        return
    prompts = drawn.find.prompts
    longest = max(len(prompt.tokens) for prompt in prompts)
    said = f"{len(prompts)} prompts of {len(script.families)} families, at most {longest} tokens"
    yield Step("stimuli", True, (f"{said}; headatlas stimuli {script.id} shows them",))
    try:
        lines = _run(script, rule, model, drawn)
    except Exception as error:
        yield Step("run", False, (failed(error, script.path),))
        return
    yield Step("run", True, lines)


def _run(script: Script, rule: Rule, model: OpenModel, drawn: DrawnStimuli) -> tuple[str, ...]:
    """Behaviour, score, and an intervention on the best head; two prompts tell that they run, not what they say."""
    behaviour = measure_behaviour(script, model, drawn.task)
    needed = max(rule.behaviour.minimum, rule.behaviour.chance)
    lines = [f"behaviour {behaviour.mean():.2f}, needed {needed:g} ({rule.behaviour.metric})"]
    score = measure_scores(script, model, drawn.find).score.mean(0)
    best = Head(*map(int, np.unravel_index(np.nanargmax(score), score.shape)))
    lines.append(f"score     {best} {score[best]:.2f}, needed {rule.detection.threshold:g} ({rule.detection.metric})")
    effects = measure_effects(script, rule, model, drawn.find, drawn.task, [best], 0, random_sets=_SETS, alone=1)
    if effects is not None:
        effect = f"{rule.cause.direction} by {effects.selected.mean():.2f}"
        lines.append(f"cause     {rule.cause.intervention} on {best}: {effect}")
    return (*lines, f"{PROMPTS} prompts of each family only: no verdict; headatlas run {script.id} gives one")
