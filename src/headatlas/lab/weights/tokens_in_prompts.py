"""Copying scores of heads that read tokens as they stand in prompts."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import torch

from headatlas.lab.activations.recording import stream_at
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.weights.ov_qk import Copying, copying_of_states
from headatlas.stimuli.prompts import Prompt


@torch.no_grad()
def copying_in_prompts(
    model: OpenModel, prompts: Sequence[Prompt], places: Sequence[Sequence[int]], k: int = 5, most: int = 150
) -> Copying:
    """Copying and suppression scores of every head on tokens of prompts, from the stream that its own layer reads.

    The scores of wang2023interpretability take the state after the first MLP instead. That state is what a head reads
    only where later layers change it little; in Gemma 3 270M no head copies any name from it.

    Args:
        model: to run.
        prompts: that are read.
        places: for each prompt, positions of the tokens whose ranks count.
        k: number of top (or bottom) ranks that count, as in `copying_scores`.
        most: if there are more places, this many of them, evenly spread, are read.

    Raises:
        HeadatlasError: as in `copying_scores` and `record`.
        ValueError: where prompts and places do not fit, or there are no places.
    """
    if len(prompts) != len(places):
        raise ValueError(f"{len(prompts)} prompts and places for {len(places)} of them")
    every = [(number, place) for number, mine in enumerate(places) for place in mine]
    if not every:
        raise ValueError("none of the prompts has a place to read")
    read: dict[int, list[int]] = defaultdict(list)
    for number, place in every[:: -(-len(every) // most)]:
        read[number].append(place)
    tokens = [prompts[number].tokens[place] for number, mine in read.items() for place in mine]
    states = [stream_at(model, prompts[number].tokens, mine) for number, mine in read.items()]
    return copying_of_states(model, tokens, torch.cat(states, 1), k)


def places_of(prompts: Sequence[Prompt], tokens: Collection[int]) -> list[list[int]]:
    """For each prompt, the positions at which one of the tokens stands."""
    wanted = set(tokens)
    return [[place for place, token in enumerate(prompt.tokens) if token in wanted] for prompt in prompts]
