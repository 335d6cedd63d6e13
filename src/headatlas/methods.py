"""Runs the worked example of each method, reproductions/methods/<id>.py, and draws the prompts that they share."""

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

Figures = Mapping[str, float | str]  # by a label that says what was measured, with its unit


def path_of(id: str) -> Path:
    """Where a method's example lies."""
    return locations.reproductions() / "methods" / f"{id}.py"


def shows(id: str) -> str:
    """What a method's example shows: its docstring.

    Raises:
        HeadatlasError: where there is no example.
    """
    return inspect.cleandoc(_load(id).__doc__ or "")


def run_example(id: str, model: "OpenModel") -> Figures:
    """Run a method's example.

    Args:
        id: of a method of the catalog.
        model: to run it on; made for the specimen, and any model that has a use for the prompts.

    Raises:
        HeadatlasError: where there is no example, or the model cannot take part in it.
    """
    figures: Figures = _load(id).example(model)
    return figures


def _load(id: str) -> ModuleType:
    path = path_of(id)
    return load_module.load(
        path, f"there is no worked example of {id} ({path} is missing); `headatlas method` lists them"
    )


def repeated_spans(words: Vocabulary, count: int, length: int = 25) -> list[Prompt]:
    """Random tokens written twice; the second time each next token is known. The control is not repeated."""
    rng = random.Random(0)
    return [repeats.written(words, length, 2, rng) for _ in range(count)]


def two_names(words: Vocabulary, count: int, same: bool = False) -> list[Prompt]:
    """Sentences of one length that the name said once completes; the rival is the name said twice.

    The control has three other names in the same places.

    Args:
        words: of the model.
        count: how many.
        same: whether all are about the same two people, of whom either may be the one to name.

    Raises:
        HeadatlasError: where too few names are single tokens.
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
