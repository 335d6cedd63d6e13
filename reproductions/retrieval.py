"""Retrieval heads look, while the model recites a fact from the text, at exactly the word that comes next.

Claim      Few heads do it, over any distance; without them a model no longer finds what it was told (wu2025retrieval).
Stimuli    A story, somewhere in it a sentence that tells three words of somebody, and the question for them. The words
           are drawn at random, so that neither the story nor the model's knowledge has them. The authors use texts of
           1,000 to 50,000 tokens; here they are 2 to 5 sentences long, so that any model can read them.
Score      The retrieval score: the share of the words at which the head looks most at the very word in the sentence
           that the model says now. The words said before are given (teacher forcing), and a look counts only where the
           word is the model's likeliest. The authors decode, and keep tests in which most was said right.
Control    The same for another of the three words: a head that looks at the sentence but not at the word in turn, or
           back by a fixed distance, does as well.
Behaviour  How often the word in turn is the likeliest next token.
Cause      The heads found are replaced by their mean over texts that tell other words, where the authors mask them: the
           words should become less likely.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, accuracy, log_probability, metric_per_prompt, pattern_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, lookup
from headatlas.stimuli.cases import Case, with_pairs

FAMILIES = {"two sentences": 2, "three sentences": 3, "five sentences": 5}
BEHAVIOUR, EFFECT = accuracy, log_probability
NEEDS_BEHAVIOUR = True
WORDS = 3


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Pairs lead from where each word is due to where it was told; in the corrupted prompt other words are told and
    recited.
    """

    def case() -> Case:
        drawn = lookup.needle("held-out", rng, FAMILIES[family], WORDS)
        vocab.singles([part.text.strip() for part in drawn.segments if part.role == "needle"], at_least=WORDS)
        return drawn

    drawn = with_pairs(vocab, case, "needle")
    due, told = [readout.position for readout in drawn.readouts], [key for _, key in drawn.pairs]
    return replace(
        drawn,
        pairs=tuple(zip(due, told, strict=True)),
        null_pairs=tuple(
            (query, rng.choice([key for key in told if key != turn])) for query, turn in zip(due, told, strict=True)
        ),
    )


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of words that each head copies, and the same for other words: [prompt layer head]."""
    steps = [replace(prompt, readouts=(each,)) for prompt in sample.prompts for each in prompt.readouts]
    said = metric_per_prompt(model, steps, accuracy).reshape(-1, WORDS)  # [prompt word]
    looks = pattern_scores(model, sample.prompts, hits)  # [prompt 2 layer head word]
    score, null = (looks * said[:, None, None, None]).mean(-1).swapaxes(0, 1)
    return Scores(score, null)


def hits(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whether each word in turn, and another one, is what each head looks at most: [2 layer head word]."""
    largest = pattern[..., [query for query, _ in prompt.pairs], :].argmax(-1)
    return np.stack([largest == [key for _, key in pairs] for pairs in (prompt.pairs, prompt.null_pairs)])
