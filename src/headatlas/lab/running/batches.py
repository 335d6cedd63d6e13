"""Turns prompts into tensors, in batches of equal length so that no padding is needed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.stimuli.prompts import Prompt

OnDone = Callable[[int], None]
Readouts = tuple[Tensor, Tensor, Tensor, Tensor]  # see `readout_tensors`
BATCH = 16


def batches(
    model: OpenModel, prompts: Sequence[Prompt], rows: Callable[[Prompt], int | tuple[int, ...]]
) -> Iterator[tuple[list[int], list[Prompt]]]:
    """Yield batches of prompts with equal length and equal `rows`, each with the prompts' indices in the list."""
    groups: dict[tuple[int, Any], list[int]] = {}
    for number, prompt in enumerate(prompts):
        require_fit(model, len(prompt.tokens), max(prompt.ids, default=0))
        groups.setdefault((len(prompt.tokens), rows(prompt)), []).append(number)
    for key in sorted(groups):
        for start in range(0, len(groups[key]), BATCH):
            index = groups[key][start : start + BATCH]
            yield index, [prompts[number] for number in index]


def stack_tokens(tokens: Sequence[tuple[int, ...]]) -> Tensor:
    """Stack token sequences of equal length into a tensor [batch position]."""
    return torch.tensor(tokens, dtype=torch.long)


def readout_tensors(batch: Sequence[Prompt]) -> Readouts:
    """Tensors for reading logits at the readouts of a batch.

    Returns:
        The positions whose logits are needed [kept], each readout's index into them [batch readout], the answers
        [batch readout], and the rivals [batch readout rival], padded with -1.
    """
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
    """Group each prompt's (query, key) pairs: queries [batch row] and their keys [batch row key], padded with -1."""
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
    """Check that a prompt of `length` tokens, with token ids up to `largest`, fits the model.

    Raises:
        HeadatlasError: if an id is outside the vocabulary, or the prompt exceeds the context.
    """
    if largest >= (known := model.vocabulary.size):
        raise HeadatlasError(f"token {largest} lies outside the vocabulary of {model.name} (0 to {known - 1})")
    if model.context is not None and length > model.context:
        raise HeadatlasError(f"a prompt of {length} tokens does not fit the context of {model.name} ({model.context})")
