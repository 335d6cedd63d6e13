"""Attention weights between chosen (query, key) pairs, for prompts of any lengths.

`attention_between` answers many questions and runs each distinct sequence once. `attention_scores` asks about a prompt,
its corrupted prompt and the sink; `pair_weights` asks about every pair separately.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headatlas.arrays import Array
from headatlas.errors import HeadatlasError
from headatlas.lab.attention.layer_scores import LayerScore, read_scores
from headatlas.lab.hooks.attention_interface import AttentionCall, AttentionHook
from headatlas.lab.loading.opened_model import OpenModel
from headatlas.lab.running.batches import BATCH, OnDone, require_fit, stack_tokens
from headatlas.lab.running.forward import run_layers
from headatlas.lab.running.scores import Scores
from headatlas.stimuli.prompts import Pairs, Prompt


@dataclass(frozen=True)
class PairQuestion:
    """Question: how much weight does each head put on these (query, key) pairs, on these tokens?"""

    tokens: tuple[int, ...]
    pairs: Pairs


def attention_between(model: OpenModel, questions: Sequence[PairQuestion], progress: OnDone | None = None) -> Array:
    """Measure every head's attention weight between the pairs of each question; equal tokens share one pass.

    Args:
        model: to run.
        questions: about sequences of any lengths.
        progress: called with the number of token sequences run since the last call.

    Returns:
        [question layer head]: the weight summed over each query's keys, averaged over queries.

    Raises:
        HeadatlasError: if a question has no pair, or its tokens do not fit the model.
    """
    found = model.anatomy.empty(len(questions))
    for batch in token_batches(model, questions):
        index = [number for numbers in batch.values() for number in numbers]
        found[index] = _attend(
            model, list(batch), [[questions[number].pairs for number in each] for each in batch.values()]
        )
        if progress:
            progress(len(batch))
    return found


def attention_scores(model: OpenModel, prompts: Sequence[Prompt], progress: OnDone | None = None) -> Scores:
    """Measure every head's attention weight between each prompt's `pairs`; the null uses the corrupted prompt.

    Args:
        model: to run.
        prompts: with pairs, of any lengths.
        progress: called with the number of token sequences run since the last call.

    Returns:
        Scores with one unit per prompt. Weights are summed over each query's keys and averaged over queries. The null
        is taken between `null_pairs` if the prompt has them; the sink is position 0, from the same queries.
    """
    for prompt in prompts:
        require_fit(model, len(prompt.tokens), max(prompt.ids, default=0))
    asked = [each for prompt in prompts for each in (*questions_of(prompt), sink_question(prompt))]
    values = attention_between(model, asked, progress)
    return Scores(values[0::3], values[1::3], values[2::3])


def attention_on_pairs(model: OpenModel, prompts: Sequence[Prompt]) -> Array:
    """The score of `attention_scores` alone: [prompt layer head]. Neither corrupted prompts nor sinks are read."""
    return attention_between(model, [PairQuestion(prompt.tokens, prompt.pairs) for prompt in prompts])


def questions_of(prompt: Prompt) -> tuple[PairQuestion, PairQuestion]:
    """The questions about a prompt: its pairs, and the null in its corrupted prompt."""
    return PairQuestion(prompt.tokens, prompt.pairs), PairQuestion(prompt.corrupted, prompt.null_pairs or prompt.pairs)


def sink_question(prompt: Prompt) -> PairQuestion:
    """How much weight goes to position 0, from the queries of the prompt's pairs?"""
    return PairQuestion(prompt.tokens, tuple((query, 0) for query in dict.fromkeys(query for query, _ in prompt.pairs)))


def pair_weights(model: OpenModel, prompts: Sequence[Prompt], corrupted: bool = False) -> list[Array]:
    """Measure every head's attention weight at each of a prompt's `pairs`, for scores that are more than their sum.

    Args:
        model: to run.
        prompts: with pairs.
        corrupted: use the corrupted prompts, at their `null_pairs` (or the same pairs).

    Returns:
        One array per prompt, [layer head pair], pairs in the prompt's order.
    """
    asked = [
        [PairQuestion(prompt.corrupted, (pair,)) for pair in prompt.null_pairs or prompt.pairs]
        if corrupted
        else [PairQuestion(prompt.tokens, (pair,)) for pair in prompt.pairs]
        for prompt in prompts
    ]
    if not all(asked):
        raise HeadatlasError("a prompt has no pairs, so there is no attention to read; give it at least one")
    values = attention_between(model, [question for each in asked for question in each])
    ends = np.cumsum([len(each) for each in asked])[:-1]
    return [each.transpose(1, 2, 0) for each in np.split(values, ends)]


def token_batches(model: OpenModel, questions: Sequence[PairQuestion]) -> list[dict[tuple[int, ...], list[int]]]:
    """Batch distinct token sequences of equal length, each with the indices of the questions about it.

    Raises:
        HeadatlasError: if a question has no pair, or its tokens do not fit the model.
    """
    by_tokens: dict[tuple[int, ...], list[int]] = {}
    for number, each in enumerate(questions):
        if not each.pairs:
            raise HeadatlasError("a prompt has no pairs, so there is no attention to read; give it at least one")
        by_tokens.setdefault(each.tokens, []).append(number)
    made: list[dict[tuple[int, ...], list[int]]] = []
    for tokens in sorted(by_tokens, key=len):
        require_fit(model, len(tokens), max(tokens, default=0))
        if not made or len(made[-1]) == BATCH or len(next(iter(made[-1]))) != len(tokens):
            made.append({})
        made[-1][tokens] = by_tokens[tokens]
    return made


def _attend(model: OpenModel, tokens: list[tuple[int, ...]], pairs: list[list[Pairs]]) -> Array:
    """Answers about a batch of sequences, [question layer head], in the order of the sequences."""
    queries, keys, share = _rows(pairs)
    reading, found = LayerScore("weights", queries, keys), dict[int, Tensor]()

    def hook(layer: int) -> AttentionHook:
        def look(call: AttentionCall, z: Tensor) -> None:
            weights = read_scores(call, [reading])[0].double().cpu()  # [batch head row key]
            found[layer] = torch.einsum("bhk,bqk->bqh", weights.flatten(2), share)

        return look

    run_layers(model, stack_tokens(tokens), hook)
    every = model.anatomy.stack(found, 2)  # [batch question layer head]
    return torch.cat([every[number, : len(each)] for number, each in enumerate(pairs)]).numpy()


def _rows(pairs: list[list[Pairs]]) -> tuple[Tensor, Tensor, Tensor]:
    """Collect the attention rows that a batch needs, each once, and the share of each weight in each question.

    Args:
        pairs: of each question about each sequence.

    Returns:
        Queries [batch row]; their keys [batch row key], padded with -1; and the factor of each weight in each question,
        [batch question row*key] in float64: 1 / (number of queries in the question).
    """
    rows = [_keys_of(questions) for questions in pairs]
    most = max(map(len, rows))
    widest = max(len(keys) for each in rows for keys in each.values())
    queries = torch.zeros(len(rows), most, dtype=torch.long)
    keys = torch.full((len(rows), most, widest), -1)
    share = torch.zeros(len(rows), max(map(len, pairs)), most * widest, dtype=torch.float64)
    for number, (questions, by_query) in enumerate(zip(pairs, rows, strict=True)):
        place: dict[tuple[int, int], int] = {}
        for row, (query, looked_at) in enumerate(by_query.items()):
            queries[number, row] = query
            keys[number, row, : len(looked_at)] = torch.tensor(list(looked_at))
            place |= {(query, key): row * widest + column for column, key in enumerate(looked_at)}
        for question, each in enumerate(questions):
            weight = 1 / len({query for query, _ in each})
            for pair in each:
                share[number, question, place[pair]] += weight
    return queries, keys, share


def _keys_of(questions: list[Pairs]) -> dict[int, dict[int, None]]:
    """Keys of each query over all questions, in order and without repeats."""
    keys: dict[int, dict[int, None]] = {}
    for pairs in questions:
        for query, key in pairs:
            keys.setdefault(query, {}).setdefault(key)
    return keys
