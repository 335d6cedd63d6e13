"""Attention weights over prompts of any lengths, pair by pair: for scores that are more than a sum of them."""

from collections.abc import Sequence

import numpy as np

from headatlas.lab.attention.streaming import PairWeight, score_heads
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.measuring import Array, batches, stack_tokens
from headatlas.stimuli.prompts import Prompt


def pair_weights(model: OpenModel, prompts: Sequence[Prompt], control: bool = False) -> list[Array]:
    """The weight of every head at each of a prompt's `pairs`, in their order.

    Args:
        model: to run.
        prompts: with pairs.
        control: read the prompts' controls instead, at their `control_pairs` (or the same pairs).

    Returns:
        For each prompt [layer head pair].
    """
    pairs = [prompt.control_pairs or prompt.pairs if control else prompt.pairs for prompt in prompts]
    place = {id(prompt): number for number, prompt in enumerate(prompts)}
    found: list[Array] = [np.empty(0)] * len(prompts)
    for index, batch in batches(model, prompts, lambda prompt: len(pairs[place[id(prompt)]])):
        tokens = stack_tokens([prompt.control if control else prompt.tokens for prompt in batch])
        weight = score_heads(model, tokens, {"pairs": PairWeight([pairs[number] for number in index])})["pairs"]
        for number, each in zip(index, weight.double().numpy(), strict=True):
            found[number] = each
    return found
