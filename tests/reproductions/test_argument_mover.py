"""Argument movers: one was planted with the heads that tell it where to look; docstrings are what they claim to be."""

import functools
import random

import pytest

import headatlas
from conftest import selected
from headatlas import specimens
from headatlas.lab import metric_per_prompt, open_model
from headatlas.lab.running import accuracy_among_rivals
from headatlas.notation import Head
from headatlas.protocol.script import PromptSample, load_script
from headatlas.stimuli import docstrings
from planted import HELD, OUT, PAST, START, WORD, Back, Copy, Marked, Planter, Same
from planted_circuits import spots

SCRIPT = load_script("argument-mover")
FAMILY, PROMPTS = "reST", 8
REST = Marked("start", 275)


@functools.cache
def planted() -> tuple[Planter, Head]:
    """What is named last is eight tokens before the end, and arguments are two tokens apart.

    One head notes at each argument the one before it, one notes at the end which one was named last, and a third looks
    for the argument behind that one. A fourth looks from the end at all arguments alike, and says them.
    """
    before, named, mover, all_alike = spots(0, 4)
    names = docstrings.ARGUMENTS[:40]
    words = [*names, *docstrings.NOUNS, *("+" + noun for noun in docstrings.NOUNS), "+\n", "+,", "+:", ":param"]
    marks = {"start": [START], "name": names, "asking": [":param"]}
    made = Planter("gpt2", words, marks=marks, seed=0)
    made.plant(before, [Back(2, 300), REST], [Copy(WORD, PAST)])
    made.plant(named, [Back(8, 300), REST], [Copy(WORD, HELD)])
    made.plant(mover, [Same(HELD, PAST, 60), Marked("name", 30), Marked("start", 75)], [Copy(WORD, OUT, 5.0)])
    made.plant(all_alike, [Marked("name", 60, seen_from="asking"), Marked("start", 30)], [Copy(WORD, OUT, 2.0)])
    return made, mover


def test_finds_the_mover_and_not_the_head_that_says_all_arguments() -> None:
    made, mover = planted()
    model, rule = made.open(), headatlas.load().heads["argument-mover"].rule
    assert rule
    prompts = [SCRIPT.module.stimulus(model.vocabulary, FAMILY, random.Random(seed)) for seed in range(PROMPTS)]
    assert metric_per_prompt(model, prompts, accuracy_among_rivals).mean() == 1.0, "the model can do it"
    assert selected(SCRIPT, rule, model, PromptSample(prompts, [FAMILY] * PROMPTS, "find")) == [mover]


@pytest.mark.parametrize("family", SCRIPT.families)
def test_the_argument_after_the_named_ones_is_asked_for_and_the_control_names_none(family: str) -> None:
    words = open_model(specimens.folder()).vocabulary
    for seed in range(20):
        prompt = SCRIPT.module.stimulus(words, family, random.Random(seed))
        [turn], arguments, named = (prompt.spans[role] for role in ("turn", "arguments", "named"))
        [readout] = prompt.readouts
        assert len(arguments) == 6 and turn == arguments[4]
        assert [prompt.tokens[place] for place in named] == [prompt.tokens[place] for place in arguments[2:4]]
        assert readout.position == len(prompt.tokens) - 1 and readout.answer == prompt.tokens[turn]
        assert {readout.answer, *readout.rivals} == {prompt.tokens[place] for place in arguments}
        assert prompt.pairs == ((readout.position, turn),)
        changed = [
            at for at, (one, other) in enumerate(zip(prompt.tokens, prompt.corrupted, strict=True)) if one != other
        ]
        assert changed == list(named), "the control differs in the names of the docstring alone"
        assert not {prompt.corrupted[at] for at in named} & {prompt.tokens[at] for at in arguments}
