"""Estimates, before findings run, how much work each of their steps is; the display learns the seconds as they run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel
from headatlas.lab.anatomy import Anatomy
from headatlas.progress import Step, Task
from headatlas.protocol.budget import Amount
from headatlas.protocol.script import PromptSample, Script, Split, load_script
from headatlas.stimuli.prompts import UntestableError

BEHAVIOUR, INTERVENTIONS = "behaviour", "interventions"
_INTERVENES = 0.5  # of all findings on all models that were tried


def scores_step(split: Split) -> str:
    """The name under which the scores of a split report progress."""
    return "scores of all heads" if split == "find" else "scores on new prompts"


def tasks(
    catalog: Catalog, ids: Iterable[str], model: OpenModel, amount: Amount, seeds: Sequence[int] = (0,)
) -> list[Task]:
    """The expected work of findings on a model, from the number and length of their prompts.

    Args:
        catalog: that the entries are in.
        ids: of entries with a rule.
        model: to run on; one prompt of each family is drawn with its tokenizer.
        amount: of prompts and random sets.
        seeds: that each finding runs with.
    """
    found = []
    for id in ids:
        each = _of(catalog, id, model, amount)
        named = (
            each
            if len(seeds) == 1
            else [replace(step, what=seed_name(seed, step.what)) for seed in seeds for step in each]
        )
        found.append(Task(id, tuple(named)))
    return found


def seed_name(seed: int, what: str) -> str:
    """The name of a step in a run with several seeds."""
    return f"seed {seed}, {what}"


def _of(catalog: Catalog, id: str, model: OpenModel, amount: Amount) -> list[Step]:
    rule = catalog.heads[id].rule
    assert rule
    try:
        return steps(load_script(id), rule, model, amount)
    except HeadatlasError:  # the run itself says what is wrong
        return []


def steps(script: Script, rule: Rule, model: OpenModel, amount: Amount) -> list[Step]:
    """The steps of one finding and their expected work, in tokens read; none where its prompts cannot be made."""
    try:
        stimulus = _tokens(script.draw("stimulus", model.vocabulary, "find", 1, 0))
        task = _tokens(script.draw("task", model.vocabulary, "test", 1, 0))
    except UntestableError:
        return []
    most = amount.drawn(rule)
    find, test = (min(count, most or count) for count in (rule.find, rule.test))
    moved = min(test, amount.cause_prompts or test)
    kind, read = _score(script, model.anatomy)
    return [
        Step(BEHAVIOUR, BEHAVIOUR, test * task * (2 if script.contrast else 1)),
        Step(scores_step("find"), kind, find * stimulus * read),
        Step(scores_step("test"), kind, test * stimulus * read),
        Step(INTERVENTIONS, INTERVENTIONS, _INTERVENES * moved * task * amount.random_sets),
    ]


def _score(script: Script, anatomy: Anatomy) -> tuple[str, float]:
    """The kind of a score, and how many times it costs a token of its prompts: measured roughly, on three models."""
    heads = len(anatomy.all_heads)
    if script.detect is None:
        return "attention", 2.0
    if script.cost:
        times = {"training": 100.0, "layer by layer": 1.5 * anatomy.layers, "paths": 0.5 * heads, "vocabulary": 12.0}
        return script.cost, times[script.cost]
    return ("sweep", 0.25 * heads) if "sweep" in vars(script.module) else ("own", 5.0)


def _tokens(sample: PromptSample) -> float:
    """The tokens of all prompts of a sample."""
    return float(sum(len(prompt.tokens) for prompt in sample.prompts))
