"""Active-dormant heads work on one kind of text and rest on the first token of another.

Claim      A head of Llama 2 7B attends to the start token of encyclopedia texts, and to other tokens of program code,
           where alone the loss rises when the head is taken away (guo2024active).
Stimuli    Stories, on which heads should sleep, and lists of pairs to be looked up, on which they should work, written
           as assignments, with arrows or with colons. A small model can read these, but not code.
Score      The smaller of two: the attention to the first token, averaged over all later tokens of a story, and the
           attention to all other tokens in a list of the same length. 1 for a head that only sleeps on the one and only
           works on the other; at least a half for one that mostly sleeps and mostly works, as in the published plot.
Control    The same with story and list exchanged, which is as large for a head that rests on both alike.
Behaviour  How often a key that comes back at the end of a list is followed by its value rather than another.
Cause      The heads found are set to zero, as the definition asks, in a story that is followed by a list: the value in
           the list should lose more log-probability than the last tokens of the story do.
"""

import random
from dataclasses import replace

import numpy as np
from torch import Tensor

from headatlas.lab import OpenModel, Scores, attention_scores, log_probability
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, lookup, stories
from headatlas.stimuli.cases import Case, aligned

FAMILIES = {"assignments": " =", "arrows": " ->", "colons": ":"}
PAIRS, TOLD, LENGTH = 4, 4, 56  # pairs in a list, tokens of a story that are read, tokens of a story and a list
STORY, LIST = slice(0, TOLD), slice(TOLD, TOLD + 1)  # their readouts


def pairs(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A list of pairs, some of whose keys come back; read where the last value comes next."""

    def case() -> Case:
        drawn = lookup.key_value("held-out", rng, PAIRS, FAMILIES[family])
        vocab.singles([part.text.strip() for part in drawn.segments[: 4 * PAIRS : 2]], at_least=2 * PAIRS)
        return drawn

    return aligned(vocab, case)


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story and, as its corrupted prompt, a list of the same length; pairs lead to the first token."""
    listed = pairs(vocab, family, rng).tokens
    story = stories.opening(vocab, len(listed), rng).tokens
    return Prompt(tokens=story, corrupted=listed, pairs=tuple((query, 0) for query in range(1, len(story))))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Rest on the one kind of text and work on the other, the smaller of the two, both ways: [prompt layer head]."""
    rest = attention_scores(model, sample.prompts)
    return Scores(np.minimum(rest.score, 1 - rest.null), np.minimum(rest.null, 1 - rest.score))


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A story that is cut at its front, then a list: read at the story's last tokens and at the list's value."""
    listed = pairs(vocab, family, rng)
    told = vocab.encode(stories.story(LENGTH // 5, rng))[len(listed.tokens) - LENGTH :]
    tokens = vocab.bos + told + listed.tokens[len(vocab.bos) :]
    due = len(vocab.bos) + len(told) - 1  # where the story's last token is
    ends = [Readout(place, tokens[place + 1]) for place in range(due - TOLD, due)]
    return Prompt(tokens, tokens, readouts=(*ends, replace(listed.readouts[-1], position=LENGTH - 1)))


def found(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Whether the list's value is the likeliest of its values: [prompt]."""
    return accuracy_among_rivals(logits[:, LIST], answers[:, LIST], rivals[:, LIST])


def gap(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """The log-probability of the list's value minus that of the story's last tokens: [prompt]."""
    listed, told = (log_probability(logits[:, at], answers[:, at], rivals[:, at]) for at in (LIST, STORY))
    return listed - told


BEHAVIOUR, EFFECT = found, gap
