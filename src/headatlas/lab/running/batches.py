"""Prompts as tensors, in batches of equal length, so that nothing is ever padded."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opening import OpenModel
from headatlas.stimuli.prompts import Prompt

Array = NDArray[np.float64]
OnDone = Callable[[int], None]
BATCH = 16


def batches(
    model: OpenModel, prompts: Sequence[Prompt], rows: Callable[[Prompt], int]
) -> Iterator[tuple[list[int], list[Prompt]]]:
    """Prompts of one length and one number of rows at a time, with their places in the list."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number, prompt in enumerate(prompts):
        require_fit(model, len(prompt.tokens), max(prompt.ids, default=0))
        groups.setdefault((len(prompt.tokens), rows(prompt)), []).append(number)
    for key in sorted(groups):
        for start in range(0, len(groups[key]), BATCH):
            index = groups[key][start : start + BATCH]
            yield index, [prompts[number] for number in index]


def stack_tokens(tokens: Sequence[tuple[int, ...]]) -> Tensor:
    """Token lists of one length as a tensor, [batch position]."""
    return torch.tensor(tokens, dtype=torch.long)


def readout_tensors(batch: Sequence[Prompt]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions to keep [kept], each readout's place among them, its answer [batch readout] and its rivals."""
    positions = sorted({readout.position for prompt in batch for readout in prompt.readouts})
    most = max((len(readout.rivals) for prompt in batch for readout in prompt.readouts), default=0)
    place = {position: number for number, position in enumerate(positions)}
    return (
        torch.tensor(positions),
        torch.tensor([[place[readout.position] for readout in prompt.readouts] for prompt in batch]),
        torch.tensor([[readout.answer for readout in prompt.readouts] for prompt in batch]),
        torch.tensor(
            [[[*r.rivals, *[-1] * (most - len(r.rivals))] for r in prompt.readouts] for prompt in batch],
            dtype=torch.long,
        ),
    )


def pair_tensors(batch: Sequence[tuple[tuple[int, int], ...]]) -> tuple[Tensor, Tensor]:
    """Pairs of each prompt as queries [batch row] and keys [batch row key], -1 where a query has fewer keys."""
    grouped: list[dict[int, list[int]]] = []
    for pairs in batch:
        by_query: dict[int, list[int]] = {}
        for query, key in pairs:
            by_query.setdefault(query, []).append(key)
        grouped.append(by_query)
    most = max(len(keys) for by_query in grouped for keys in by_query.values())
    return (
        torch.tensor([list(by_query) for by_query in grouped]),
        torch.tensor([[[*keys, *[-1] * (most - len(keys))] for keys in by_query.values()] for by_query in grouped]),
    )


def require_fit(model: OpenModel, length: int, largest: int) -> None:
    """See that a model can read so many tokens, of which the largest id is this.

    Raises:
        HeadatlasError: where the id is not in its vocabulary, or the tokens do not fit its context.
    """
    if largest >= (known := model.vocabulary.size):
        raise HeadatlasError(f"token {largest} lies outside the vocabulary of {model.name} (0 to {known - 1})")
    if model.context is not None and length > model.context:
        raise HeadatlasError(f"a prompt of {length} tokens does not fit the context of {model.name} ({model.context})")
