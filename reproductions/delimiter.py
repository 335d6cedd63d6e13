"""Delimiter heads look at the marks that separate pieces of text rather than at the words.

Claim      The mean attention of all tokens to a delimiter is several times that to any token (pande2021heads). In BERT
           these are [CLS] and [SEP], and in late layers full stops and commas (clark2019what).
Stimuli    Sentences joined by full stops, by semicolons, or by commas, read at five words in a row of the last one. A
           decoder has no [SEP], and its first token is left to attention sinks.
Score      The authors': a token's mean attention to the delimiters before it  mean attention to all tokens it
           sees, averaged over the tokens.
Control    The same for the same places where words from the text stand instead of the delimiters.
Behaviour  The log-probability of the next tokens, minus the same where words stand instead of the delimiters: what
           the marks are worth to the model.
Cause      The delimiters are hidden from the heads found: the text should become less likely, and more so than where
           they are hidden from as many other heads. Where heads merely rest on them, as it seems in BERT
           (clark2019what), it need not.
"""

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, log_probability, pattern_scores
from headatlas.lab.ablation import Patch, without_keys
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, grammar
from headatlas.stimuli.cases import tokenize

FAMILIES = {"full stops": ".", "semicolons": ";", "commas": ","}
BEHAVIOUR, CONTRAST, EFFECT = log_probability, True, log_probability
LENGTH, READ = 40, 5


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Sentences and their delimiters; pairs lead from the last words to all delimiters before them."""
    for _ in range(100):
        parts = grammar.joined(FAMILIES[family], 10, rng)
        read = tokenize(vocab, parts)
        tokens, marks = read.ids[:LENGTH], [place for place in read.covers("delimiter") if place < LENGTH]
        if len(marks) >= 2 and marks[-1] < LENGTH - READ:
            break
    else:
        raise UntestableError(f"two sentences take more than {LENGTH - READ} tokens of this tokenizer")
    queries = range(LENGTH - READ, LENGTH)
    others = [token for place, token in enumerate(tokens) if place >= len(vocab.bos) and place not in marks]
    return Prompt(
        tokens=tokens,
        corrupted=tuple(rng.choice(others) if place in marks else token for place, token in enumerate(tokens)),
        pairs=tuple((query, key) for query in queries for key in marks),
        readouts=tuple(Readout(query, read.ids[query + 1]) for query in queries),
    )


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much more attention the delimiters, or the words in their place, get than any token: [prompt layer head]."""
    score, null = (pattern_scores(model, sample.prompts, favour, corrupted) for corrupted in (False, True))
    return Scores(score, null)


def favour(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean weight of the queries on the delimiters over that on all they see, averaged: [layer head]."""
    queries, keys = (sorted(set(places)) for places in zip(*prompt.pairs, strict=True))
    weight = pattern[:, :, queries][..., keys].mean(-1)  # [layer head query]
    ratio: NDArray[np.float64] = (weight * (np.array(queries) + 1)).mean(-1)  # the weights on all it sees sum to 1
    return ratio


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """What heads write when they cannot see the delimiters."""
    return without_keys(model, marks)


def marks(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """The delimiters, from every token after them."""
    return ((query, key) for key in {key for _, key in prompt.pairs} for query in range(key + 1, len(prompt.tokens)))
