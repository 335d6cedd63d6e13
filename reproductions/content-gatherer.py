"""Content gatherer heads bring what a question asks for to the last token, where later heads look up the answer.

Claim      In colored objects the head attends from the last token to the words of the question, so that mover heads
           can find the color of the thing asked for (merullo2024circuit).
Stimuli    "On the table there are a red cup, a blue hat and a green ball. Question: What color is the hat? Answer:",
           many with another question answered before. The corrupted prompt asks for another thing of the list.
Score      The product of two tests. What the head at the last token does through later heads: its total effect when it
           is patched from the corrupted prompt, minus its direct one by path patching, as a share of what the corrupted
           prompt changes in the logit difference of the color and the others. And the attention from the last token to
           the thing asked for. The paper patches into the queries of the mover heads; here all later heads count.
Control    The same from a prompt with the same question, where a thing that is not asked for is another.
Behaviour  How often the right color has the largest logit of the three.
Cause      The heads found read, at the last token, the question for the other thing: the right color should lose its
           lead. The paper blocks their attention to the question instead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention import attention_on_pairs
from headatlas.lab.paths import indirect_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary
from headatlas.stimuli.cases import first_usable, in_place, in_same_places
from headatlas.stimuli.colored_objects import asking_another, colored_objects, relisted

FAMILIES = {  # how the things are told, and how a color is asked for
    "on the table": ("On the table there are", "What color is the"),
    "in the box": ("In the box I see", "What is the color of the"),
    "she bought": ("She bought", "Which color has the"),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR, COST = True, "paths"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Three colored things and the question for one, with its corrupted prompt and its alternative; read after
    'Answer:'.
    """
    return first_usable(lambda: asked(vocab, FAMILIES[family], rng))


def asked(vocab: Vocabulary, frame: tuple[str, str], rng: random.Random) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    case = asking_another(colored_objects("train", rng, 3, frame), rng)
    made, places = in_place(vocab, case)
    _, same_question = in_same_places(vocab, case.segments, relisted(case, rng))
    last = [span for span, role in zip(places.spans, places.roles, strict=True) if role == "asked"][-1]
    pairs = tuple((len(made.tokens) - 1, key) for key in range(*last))
    return replace(made, pairs=pairs, readouts=made.readouts[-1:], alternatives={"relisted": same_question.ids})


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the effect that goes through later heads, times the attention to what is asked for."""
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["relisted"] for prompt in prompts])
    found = indirect_effects(model, prompts, EFFECT, sources, "last")
    whole = abs(found.clean - found.sources[0]).mean()
    score, null = -found.effects / whole * attention_on_pairs(model, prompts)  # [prompt layer head]
    return Scores(score, null)
