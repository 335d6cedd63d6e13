"""Function vector heads write, after some examples of a task, what the task is.

Claim      The mean output of the head at the end of prompts with examples, put in its place where the examples are
           shuffled, brings back the right answer: the vector of a task is carried by a few heads (todd2024function).
           Few-shot accuracy rests on them (yin2025which).
Stimuli    Seven pairs of a word and its image under one task, then a word: "hot -> cold, … up ->"; antonyms, plurals,
           past tenses. In the corrupted prompt the images are shuffled. The paper gives ten pairs, and 100 prompts for
           a mean.
Score      The average indirect effect: z at the last token of a shuffled prompt becomes the head's mean there over
           prompts of the task with true examples and other answers; how much the probability of the right answer rises.
Control    The same with the mean of another task.
Behaviour  How much more often the right answer is the likeliest next token after true examples than after shuffled
           ones. Where this is nothing, examples are not what tells the model the task.
Cause      The reverse: in prompts with true examples the heads found give, at the last token, what they give where the
           examples are shuffled. The right answer should be less probable. No vector is added to other texts.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from headatlas.lab import OpenModel, Scores, accuracy, probability, sweep
from headatlas.lab.ablation import Patch, ZValues
from headatlas.lab.fits import collect_z
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, UntestableError, Vocabulary, mappings
from headatlas.stimuli.cases import aligned

FAMILIES = {"antonym": "past", "plural": "antonym", "past": "plural"}  # a task, and what it is compared with
BEHAVIOUR, CONTRAST, EFFECT, POSITIONS = accuracy, True, probability, "last"
SHOTS = 7


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """True examples, and in the corrupted prompt shuffled ones; read where the image of the last word comes next."""
    made = aligned(vocab, lambda: mappings.few_shot("train", rng, family, SHOTS, form=("", " ->", ",")))
    return replace(made, readouts=made.readouts[-1:])


def halves(families: Sequence[str], answers: Sequence[int]) -> dict[int, int]:
    """Every answer is in one half, 0 or 1, and every task in both where its prompts have different answers."""
    half: dict[int, int] = {}
    for task in FAMILIES:
        mine = sorted({answer for family, answer in zip(families, answers, strict=True) if family == task})
        for answer in mine:
            dealt = [half[other] for other in mine if other in half]
            half.setdefault(answer, int(2 * sum(dealt) < len(dealt)))
    return half


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The rise of the answer's probability in each shuffled prompt: [prompt layer head]."""
    z = collect_z(model, [prompt.tokens for prompt in sample.prompts])  # [prompt layer head d_head]
    shuffled = [replace(prompt, tokens=prompt.corrupted) for prompt in sample.prompts]
    answers = [prompt.readouts[0].answer for prompt in shuffled]
    half = halves(sample.families, answers)  # no mean knows the answer

    def members(task: str, side: int) -> list[int]:
        places = enumerate(zip(sample.families, answers, strict=True))
        return [place for place, (family, answer) in places if family == task and half[answer] == side]

    if lacking := [task for task in FAMILIES for side in (0, 1) if not members(task, side)]:
        raise UntestableError(f"too few prompts: those of {lacking[0]} do not differ in their answers")
    place = {prompt.tokens: number for number, prompt in enumerate(shuffled)}

    def given(compared: Mapping[str, str]) -> Patch:
        """Means over the other half of a task's prompts: the task of each prompt, or the one it is compared with."""
        sources = [
            members(compared[task], 1 - half[answer]) for task, answer in zip(sample.families, answers, strict=True)
        ]
        means = torch.stack([z[torch.tensor(source)].mean(0) for source in sources])
        return lambda batch: ZValues.of_prompts(model.anatomy, means[[place[prompt.tokens] for prompt in batch]])

    patches = given({task: task for task in FAMILIES}), given(FAMILIES)
    score, null = (sweep(model, shuffled, probability, each, "last").effect_per_prompt for each in patches)
    return Scores(score, null)
