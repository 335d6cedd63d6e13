"""Content gatherer heads bring what a question asks for to the last token, where later heads look up the answer.

Claim      In colored objects the head attends from the last token to the words of the question, so that mover heads
           can find the color of the thing asked for (merullo2024circuit).
Stimuli    "On the table there are a red cup, a blue hat and a green ball. Question: What color is the hat? Answer:",
           many with another question answered before. The twin asks for another thing of the list.
Score      The product of two tests. What the head at the last token does through later heads: its total effect when it
           is patched from the twin, minus its direct one by path patching, as a share of what the twin changes in the
           logit difference of the color and the others. And the attention from the last token to the thing asked for.
           The paper patches into the queries of the mover heads; here all later heads count.
Control    The same from a prompt with the same question, where a thing that is not asked for is another.
Behaviour  How often the right color has the largest logit of the three.
Cause      The heads found read, at the last token, the question for the other thing: the right color should lose its
           lead. The paper blocks their attention to the question instead.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import (
    OpenModel,
    Scores,
    accuracy_among_rivals,
    attention_scores,
    behave,
    logit_difference,
    path_effects,
    sweep,
)
from headatlas.protocol.script import Drawn
from headatlas.stimuli import Prompt, Vocabulary
from headatlas.stimuli.cases import first_usable, in_place, in_same_places
from headatlas.stimuli.colored_objects import asking_another, colored_objects, relisted

FAMILIES = {"on the table": 0, "in the box": 1, "she bought": 2}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"


def stimulus(words: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three colored things and the question for one, with its twin and its placebo; read after 'Answer:'."""
    return first_usable(lambda: asked(words, FAMILIES[family], rng))


def asked(words: Vocabulary, frame: int, rng: random.Random) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    case = asking_another(colored_objects("train", rng, 3, frame), rng)
    made, places = in_place(words, case)
    _, placebo = in_same_places(words, case.segments, relisted(case, rng))
    last = [span for span, role in zip(places.spans, places.roles, strict=True) if role == "asked"][-1]
    pairs = tuple((len(made.tokens) - 1, key) for key in range(*last))
    return replace(made, pairs=pairs, readouts=made.readouts[-1:], placebo=placebo.ids)


def detect(model: OpenModel, drawn: Drawn) -> Scores:
    """The share of the effect that goes through later heads, times the attention to what is asked for."""
    prompts = drawn.prompts
    whole = float(abs(behave(model, prompts, EFFECT, contrast=True).mean()))
    looks = attention_scores(model, prompts).score  # [prompt layer head]

    def through_others(source: list[tuple[int, ...]] | None) -> NDArray[np.float64]:
        total = sweep(model, prompts, EFFECT, "resample", "last", source=source).effect.transpose(2, 0, 1)
        return (path_effects(model, prompts, EFFECT, "logits", source, "last") - total) / whole * looks

    return Scores(through_others(None), through_others([prompt.placebo for prompt in prompts]))
