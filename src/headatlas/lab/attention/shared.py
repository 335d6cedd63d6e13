"""Attention between pairs for many questions at once: each sequence of tokens is run once, whoever asks about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headatlas.errors import HeadatlasError
from headatlas.lab.attention.layer_scores import Reading, read
from headatlas.lab.hooks.attention_interface import Call, Tap
from headatlas.lab.loading.opening import OpenModel
from headatlas.lab.running.measuring import Array, Progress, forward, stack_tokens

_BATCH = 16
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Asked:
    """How much weight lies between these (query, key) pairs when a model reads these tokens?"""

    tokens: tuple[int, ...]
    pairs: Pairs


def shared_attention(model: OpenModel, asked: Sequence[Asked], progress: Progress | None = None) -> Array:
    """The weight between the pairs of each question, as in `attention_scores`; equal tokens share one pass.

    Args:
        model: to run.
        asked: the questions, of any lengths.
        progress: called with the number of token sequences run since.

    Returns:
        [question layer head]: the weight summed over each query's keys, averaged over its queries.

    Raises:
        HeadatlasError: where a question asks for no pair, or does not fit the context.
    """
    found = model.anatomy.empty(len(asked))
    for batch in batches(model, asked):
        index = [number for numbers in batch.values() for number in numbers]
        found[index] = _attend(
            model, list(batch), [[asked[number].pairs for number in each] for each in batch.values()]
        )
        if progress:
            progress(len(batch))
    return found


def batches(model: OpenModel, asked: Sequence[Asked]) -> list[dict[tuple[int, ...], list[int]]]:
    """Different token sequences of one length at a time, each with the numbers of the questions about it."""
    by_tokens: dict[tuple[int, ...], list[int]] = {}
    for number, each in enumerate(asked):
        if not each.pairs:
            raise HeadatlasError("a prompt has no pairs, so there is no attention to read; give it at least one")
        if model.context is not None and len(each.tokens) > model.context:
            raise HeadatlasError(
                f"a prompt of {len(each.tokens)} tokens does not fit the context of {model.name} ({model.context})"
            )
        by_tokens.setdefault(each.tokens, []).append(number)
    made: list[dict[tuple[int, ...], list[int]]] = []
    for tokens in sorted(by_tokens, key=len):
        if not made or len(made[-1]) == _BATCH or len(next(iter(made[-1]))) != len(tokens):
            made.append({})
        made[-1][tokens] = by_tokens[tokens]
    return made


def _attend(model: OpenModel, tokens: list[tuple[int, ...]], pairs: list[list[Pairs]]) -> Array:
    """[question layer head], questions by their tokens."""
    queries, keys, share = _rows(pairs)
    reading, found = Reading("mass", queries, keys), dict[int, Tensor]()

    def tap(layer: int) -> Tap:
        def look(call: Call, z: Tensor) -> None:
            mass = read(call, [reading])[0].double().cpu()  # [batch head row]
            found[layer] = torch.einsum("bhr,bqr->bqh", mass, share)

        return look

    taps = {module: tap(layer) for layer, module in model.anatomy.attention.items()}
    forward(model, stack_tokens(tokens), taps, torch.tensor([0]))
    every = model.anatomy.stack(found, 2)  # [batch question layer head]
    return torch.cat([every[number, : len(each)] for number, each in enumerate(pairs)]).numpy()


def _rows(pairs: list[list[Pairs]]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [batch row], their keys [batch row key], -1 for none, and what part of each question a row is.

    The last is [batch question row], float64.
    """
    rows: list[list[tuple[int, int, list[int]]]] = []  # by prompt: question, query, keys
    for questions in pairs:
        rows.append([])
        for question, each in enumerate(questions):
            by_query: dict[int, list[int]] = {}
            for query, key in each:
                by_query.setdefault(query, []).append(key)
            rows[-1] += [(question, query, keys) for query, keys in by_query.items()]
    most, widest = max(map(len, rows)), max(len(keys) for each in rows for _, _, keys in each)
    queries = torch.zeros(len(rows), most, dtype=torch.long)
    keys = torch.full((len(rows), most, widest), -1)
    share = torch.zeros(len(rows), max(map(len, pairs)), most, dtype=torch.float64)
    for number, prompt in enumerate(rows):
        for place, (question, query, looked_at) in enumerate(prompt):
            queries[number, place] = query
            keys[number, place, : len(looked_at)] = torch.tensor(looked_at)
            share[number, question, place] = 1.0
    return queries, keys, share / share.sum(-1, keepdim=True).clamp_min(1)
