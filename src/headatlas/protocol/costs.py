"""Estimates, before findings run, how much work each of their steps is; the display learns the seconds as they run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.lab import OpenModel
from headatlas.progress import Step, Task
from headatlas.protocol.budget import Amount
from headatlas.protocol.script import PromptSample, Script, load_script
from headatlas.stimuli.prompts import UntestableError

BEHAVIOUR, INTERVENTIONS = "behaviour", "interventions"
# Tokens that a score reads for each token of its prompts, by what it is: roughly, on models that were tried.
_READ = {"attention": 2.0, "own": 15.0, "costly": 150.0}
_INTERVENES = 0.5  # of all findings on all models that were tried
_RERUN = 0.4  # of the model, for one intervention: layers before it are not run again
_LENGTH = 30.0  # tokens of a prompt that could not be drawn


def scores_step(split: str) -> str:
    """The name under which the scores of a split report progress."""
    return f"scores, {split}"


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
    """The steps of one finding and their expected work, in tokens read."""
    try:
        stimulus = _tokens(script.draw("stimulus", model.vocabulary, "find", 1, 0))
        task = _tokens(script.draw("task", model.vocabulary, "test", 1, 0))
    except UntestableError:
        stimulus = task = len(script.families) * _LENGTH
    most = amount.drawn(rule)
    find, test = (min(count, most or count) for count in (rule.find, rule.test))
    moved = min(test, amount.cause_prompts or test)
    kind = "attention" if script.detect is None else "costly" if script.cost else "own"
    name = f"{kind} {script.cost or ''}".strip()
    return [
        Step(BEHAVIOUR, BEHAVIOUR, test * task * (2 if script.contrast else 1)),
        Step(scores_step("find"), name, find * stimulus * _READ[kind]),
        Step(scores_step("test"), name, test * stimulus * _READ[kind]),
        Step(INTERVENTIONS, INTERVENTIONS, _INTERVENES * _RERUN * moved * task * amount.random_sets),
    ]


def _tokens(sample: PromptSample) -> float:
    """The tokens of all prompts of a sample."""
    return float(sum(len(prompt.tokens) for prompt in sample.prompts))
