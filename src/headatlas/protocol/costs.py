"""Estimates, before findings run, how much work each of their steps is; the display learns the seconds as they run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from headatlas.catalog.catalog import Catalog
from headatlas.catalog.schema import Rule
from headatlas.errors import HeadatlasError
from headatlas.evidence.sequential import stopping_rule
from headatlas.lab import OpenModel
from headatlas.lab.ablation.replacement import edited_positions
from headatlas.lab.ablation.sweep_engine import skipping_pays
from headatlas.progress import Step, Task, seed_name
from headatlas.protocol.budget import SMALL, Amount, first_third, parameters
from headatlas.protocol.draw_stimuli import DrawnStimuli
from headatlas.protocol.script import PromptSample, Script, Split, load_script
from headatlas.protocol.work import fit_of
from headatlas.stimuli.prompts import UntestableError

BEHAVIOUR, INTERVENTIONS = "behaviour", "interventions"
# Counted in 389 records of the specimens and SmolLM2, 146 of them with a causal test:
_INTERVENES = 0.4  # of all findings have one
_HEADS = 6  # are intervened on alone, on average
_LAYERS = 0.67  # of all layers are rerun, from the first that is intervened on
_AFFORDED = 12_000  # tokens of work for one half of the scores: half a minute on a core and 135M weights


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


def _of(catalog: Catalog, id: str, model: OpenModel, amount: Amount) -> list[Step]:
    rule = catalog.heads[id].rule
    assert rule
    try:
        return steps(load_script(id), rule, model, amount)
    except HeadatlasError:  # the run itself says what is wrong
        return []


def steps(script: Script, rule: Rule, model: OpenModel, amount: Amount) -> list[Step]:
    """The steps of one finding and their expected work; none where its prompts cannot be made."""
    try:
        work = expected(script, rule, model, amount)
    except UntestableError:
        return []
    kind, effort = ("attention", 1.0) if script.detect is None else (script.cost or "own", work.pace)
    return [
        Step(BEHAVIOUR, BEHAVIOUR, work.behaviour),
        Step(scores_step("find"), kind, effort * work.find),
        Step(scores_step("test"), kind, effort * work.test),
        Step(INTERVENTIONS, INTERVENTIONS, _INTERVENES * work.interventions),
    ]


@dataclass(frozen=True)
class Work:
    """The expected work of one finding, in tokens that pass all layers.

    Attributes:
        behaviour, find, test: of the behaviour and of both halves of the scores.
        interventions: where heads are found, and the answer stands at the first look at which it can, on a third of
            the prompts.
        whole: the same on all prompts.
        pace: how many times slower than most the work of the score is (`headatlas.protocol.work`).
    """

    behaviour: float
    find: float
    test: float
    interventions: float
    whole: float
    pace: float


def expected(script: Script, rule: Rule, model: OpenModel, amount: Amount, drawn: DrawnStimuli | None = None) -> Work:
    """The expected work of one finding, from the length of its prompts and from counts of its score on other models.

    Args:
        script, rule: of the entry.
        model: to run on.
        amount: of prompts and random sets.
        drawn: prompts to go by, however many; by default one of each family is drawn.

    Raises:
        UntestableError: where the prompts cannot be made for this model.
    """
    stimulus = drawn.find if drawn else script.draw("stimulus", model.vocabulary, "find", 1, 0)
    task = drawn.task if drawn else script.draw("task", model.vocabulary, "test", 1, 0)
    most, times, families = amount.drawn(rule), 2 if script.contrast else 1, len(script.families)
    find, test = (families * min(count, most or count) for count in (rule.find, rule.test))
    moved = min(test, families * (amount.cause_prompts or rule.test)) // families
    fit, one = fit_of(script.id), _sequences(stimulus) / len(stimulus.prompts)
    if script.detect is not None:
        one = fit.work(_mean_length(stimulus), 1, len(model.anatomy.all_heads))
    each = families * times * _reruns(amount) * _rerun(script, task)  # prompts of each family that are read
    return Work(
        behaviour=test * times * _mean_length(task),
        find=find * one,
        test=test * one,
        interventions=first_third(moved) * each,
        whole=moved * each,
        pace=fit.pace,
    )


def more_prompts(script: Script, rule: Rule, model: OpenModel, amount: Amount, drawn: DrawnStimuli) -> int | None:
    """How many prompts of each family to draw where those of a quick budget are too few to tell; None for no more.

    As many as the rule says for a small model. For a large one, twice as many as before where that is not much work.

    Args:
        script, rule, model: of the finding.
        amount: of which the prompts were too few.
        drawn: these prompts.
    """
    first = amount.drawn(rule)
    if first is None or first >= rule.find:
        return None
    if parameters(model) < SMALL:
        return rule.find
    twice = min(2 * first, rule.find)
    return twice if expected(script, rule, model, replace(amount, prompts=twice), drawn).find <= _AFFORDED else None


def _mean_length(sample: PromptSample) -> float:
    """The tokens of a prompt, on average."""
    return sum(len(prompt.tokens) for prompt in sample.prompts) / len(sample.prompts)


def _sequences(sample: PromptSample) -> int:
    """The tokens of the different sequences among prompts and corrupted prompts."""
    return sum(map(len, {tokens for prompt in sample.prompts for tokens in (prompt.tokens, prompt.corrupted)}))


def _reruns(amount: Amount) -> int:
    """How many sets of heads are intervened on, where the answer stands as early as it can."""
    early = min(stopping_rule(amount.random_sets).looks, default=0)
    return early + 1 + min(amount.alone, _HEADS) if early else 0


def _rerun(script: Script, task: PromptSample) -> float:
    """The tokens of one rerun of a prompt, on average, from the first position and layer that is intervened on."""
    lengths = [len(prompt.tokens) for prompt in task.prompts]
    firsts = [int(edited_positions(script.positions, length)[0]) for length in lengths]
    read = (
        length - (first if skipping_pays(first, length) else 0) for first, length in zip(firsts, lengths, strict=True)
    )
    return _LAYERS * sum(read) / len(lengths)
