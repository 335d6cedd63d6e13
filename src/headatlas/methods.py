"""Runs the worked example of each method, reproductions/methods/<id>.py, and draws the prompts of the examples."""

import inspect
import random
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from headatlas import locations
from headatlas.protocol import load_module
from headatlas.stimuli import Prompt, Readout, Vocabulary, indirect_object, repeats
from headatlas.stimuli.lexicon import NAMES

if TYPE_CHECKING:
    from headatlas.lab import OpenModel

Figures = Mapping[str, float | str]  # by label, which says what was measured and its unit


def path_of(id: str) -> Path:
    """The path of a method's example."""
    return locations.reproductions() / "methods" / f"{id}.py"


def shows(id: str) -> str:
    """The docstring of a method's example, which says what the example shows.

    Raises:
        HeadatlasError: if there is no example.
    """
    return inspect.cleandoc(_load(id).__doc__ or "")


def run_example(id: str, model: "OpenModel") -> Figures:
    """Run a method's example.

    Args:
        id: id of a method of the catalog.
        model: the model to run on; examples are written for the specimen.

    Raises:
        HeadatlasError: if there is no example, or the model cannot run it.
    """
    figures: Figures = _load(id).example(model)
    return figures


def _load(id: str) -> ModuleType:
    path = path_of(id)
    return load_module.load(
        path, f"there is no worked example of {id} ({path} is missing); `headatlas method` lists them"
    )


def repeated_spans(words: Vocabulary, count: int, length: int = 25) -> list[Prompt]:
    """Random tokens written twice, so that the second copy is predictable. The corrupted prompt has no repetition."""
    rng = random.Random(0)
    return [repeats.written(words, length, 2, rng) for _ in range(count)]


def two_names(words: Vocabulary, count: int, same: bool = False) -> list[Prompt]:
    """IOI sentences of one length: the answer is the name that occurs once, the rival the name that occurs twice.

    The corrupted prompt has three other names at the same positions.

    Args:
        words: the model's vocabulary.
        count: number of prompts.
        same: True if all prompts are about the same two people, either of whom may be the answer.

    Raises:
        HeadatlasError: if too few names are single tokens.
    """
    rng, names = random.Random(0), words.singles(NAMES, at_least=5)
    names = names[:5] if same else names
    prompts: list[Prompt] = []
    couple = {f" {name}" for name in names[:2]}
    while len(prompts) < count:
        drawn = indirect_object.sentence(rng.choice(indirect_object.ORDERS), rng, names)
        tokens = words.bos + words.encode(drawn.text)
        if (prompts and len(tokens) != len(prompts[0].tokens)) or (same and {drawn.answer, drawn.subject} != couple):
            continue
        (answer,), (subject,) = words.continuation(drawn.answer), words.continuation(drawn.subject)
        readout = Readout(len(tokens) - 1, answer, (subject,))
        prompts.append(Prompt(tokens, words.bos + words.encode(drawn.corrupted), readouts=(readout,)))
    return prompts
