"""Draws the stimuli of a run: prompts that select heads, prompts that test them, and prompts for the behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass

from headatlas.catalog.schema import Rule
from headatlas.lab import OpenModel
from headatlas.protocol.script import PromptSample, Script, Split
from headatlas.stimuli.prompts import UntestableError


@dataclass(frozen=True)
class DrawnStimuli:
    """The prompts of one run. No prompt of `find` is among the others.

    Attributes:
        find: on which heads are selected.
        test: on which the selected heads are measured again.
        task: on which the behaviour is read, and the effect of interventions.
    """

    find: PromptSample
    test: PromptSample
    task: PromptSample

    def of(self, split: Split) -> PromptSample:
        """The prompts that select heads, or those that test them."""
        return self.find if split == "find" else self.test


def draw(script: Script, rule: Rule, model: OpenModel, seed: int, prompts: int | None = None) -> DrawnStimuli:
    """Draw the stimuli of one entry for one model.

    Args:
        script, rule: of the entry.
        model: whose tokenizer the prompts are made with; a script may also query it to search for prompts.
        seed: of the draw.
        prompts: the most of each family; as many as the rule says by default.

    Raises:
        UntestableError: where the tokenizer cannot express the prompts, or they do not fit the context.
    """
    vocabulary = model.vocabulary
    finding, testing = (min(count, prompts or count) for count in (rule.find, rule.test))
    find = script.draw("stimulus", vocabulary, "find", finding, seed)
    test = script.draw("stimulus", vocabulary, "test", testing, seed, but=find)
    task = script.draw("task", vocabulary, "test", testing, seed, but=find)
    _require_room(model, [find, test, task])
    return DrawnStimuli(script.search(model, find), script.search(model, test), task)


def fewer(sample: PromptSample, count: int | None) -> PromptSample:
    """The first `count` prompts of each family; all of them for None."""
    if count is None:
        return sample
    seen: dict[str, int] = {}
    index = []
    for number, family in enumerate(sample.families):
        seen[family] = seen.get(family, 0) + 1
        if seen[family] <= count:
            index.append(number)
    return PromptSample(
        [sample.prompts[each] for each in index], [sample.families[each] for each in index], sample.split
    )


def _require_room(model: OpenModel, drawn: Sequence[PromptSample]) -> None:
    longest = max(len(prompt.tokens) for each in drawn for prompt in each.prompts)
    if model.context is not None and longest > model.context:
        raise UntestableError(f"a prompt has {longest} tokens, and the context of this model only {model.context}")
