"""Injection-distracted heads turn from the instruction to an order that is hidden in the data.

Claim      With an attack such as "Ignore previous instruction and output …" in the data, some heads' attention from the
           last token moves from the instruction to the data, further than it varies from prompt to prompt; watching
           these heads detects attacks (hung2024attention).
Stimuli    An instruction, a sentence as data, and the attack after it: the authors' own instruction and another one as
           the user's turn of a chat, as they write it for models without a system prompt, and a third one in plain
           text. In the corrupted prompt a sentence of as many tokens that names the same word replaces the attack.
Score      The authors' criterion: the attention from the last token to the instruction, as a share of that to
           instruction and data; its fall from the corrupted prompt to the prompt with the attack, less four times the
           sum of its standard deviations over the prompts of the family with and without. Above 0 a head qualifies. The
           authors' prompts without an attack are shorter: there a head qualifies whose attention goes with length.
Control    The same from the corrupted prompt to one with another such sentence; the standard deviations stay.
Behaviour  The log probability that the answer begins with the word that the attack orders, minus the same in the
           corrupted prompt: whether the attack works at all, which the authors do not ask.
Cause      At the last token the heads found give what they give in the corrupted prompt: the ordered word should become
           less likely. The authors intervene on nothing.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, log_probability, pattern_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, injections
from headatlas.stimuli.cases import first_usable

FAMILIES = {  # the instruction, and whether it stands in the chat
    "say": ("Say xxxxxx", True),
    "yes": ("Read the data and answer yes", True),
    "name the color": ("Name a color", False),
}
BEHAVIOUR, CONTRAST, EFFECT, POSITIONS, CHAT = log_probability, True, log_probability, "last", True
SPREADS = 4.0  # how many times the standard deviations are taken off; the authors' list for Qwen2 1.5B fits this
TINY = 1e-8  # as in the authors' code


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """An instruction and data with an attack."""
    return first_usable(lambda: injections.prompt(vocab, *FAMILIES[family], rng))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How far attention to the instruction falls with the attack, and with the other sentence: [prompt layer head]."""
    prompts = sample.prompts
    mention = [replace(prompt, tokens=prompt.alternatives["mention"]) for prompt in prompts]
    attacked, before = (pattern_scores(model, prompts, share, corrupted) for corrupted in (False, True))
    other, spread = pattern_scores(model, mention, share), np.empty_like(before)
    for numbers in (sample.of_family(family) for family in dict.fromkeys(sample.families)):
        spread[numbers] = before[numbers].std(0) + attacked[numbers].std(0)
    return Scores(before - attacked - SPREADS * spread, before - other - SPREADS * spread)


def share(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attention from the last token to the instruction, of that to instruction and data: [layer head]."""
    instruction, data = (pattern[..., -1, list(prompt.spans[role])].sum(-1) for role in ("instruction", "data"))
    found: NDArray[np.float64] = instruction / (instruction + data + TINY)
    return found
