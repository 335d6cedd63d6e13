"""Attribution heads point, while a model answers from a text, at the words that the answer is taken from.

Claim      In extractive question answering a few heads of the circuit for answers from the context attend, at each
           token of the answer, to its words in the context; the place where one such head looks most attributes the
           answer to its source (basu2025mechanistic).
Stimuli    A passage tells in three sentences what three people bought, found or got; the question is who it was, and
           the answer is a person's two names. In the corrupted prompt two other names stand in their place.
Score      The product of the two halves of the definition. Attribution: at which share of the answer's tokens the
           head's largest weight within the passage lies on the answer's words; the authors put a window around that
           place and rank sentences by it. And causal mediation: what share of the corrupted prompt's whole effect on
           the logit difference patching the head has where the two tokens come next. The authors choose among heads of
           the circuit one whose attention has a low entropy; the body of the paper was not read.
Control    The same for the names of somebody else in the passage.
Behaviour  How often a name of the answer is the likeliest next token.
Cause      The heads found give, where the answer's tokens come next, what they give in the corrupted prompt: the answer
           should lose its lead.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, accuracy, logit_difference, pattern_scores, sweep
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, extractive_questions

FAMILIES = {"bought": "bought", "found": "found", "given": "given"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy, logit_difference, [-2, -1]
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A passage, a question and the first name of the answer; read where both of its names come next."""
    return extractive_questions.passage_question(vocab, rng, extractive_questions.TELLINGS[FAMILIES[family]])


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of tokens that each head attributes rightly, times its share of the effect: [prompt layer head]."""
    prompts = sample.prompts
    swept = sweep(model, prompts, EFFECT, "resample", POSITIONS)
    moved = swept.normalized_effect()
    right, wrong = pattern_scores(model, prompts, hits).swapaxes(0, 1)  # [prompt layer head] each
    return Scores(right * moved, wrong * moved)


def hits(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """At what share of the answer's tokens each head looks most, within the passage, at its words, and at the others.

    [2 layer head]
    """
    passage = np.array(prompt.spans["passage"])
    queries = sorted({query for query, _ in prompt.pairs})
    largest = passage[pattern[..., queries, :][..., passage].argmax(-1)]  # [layer head query]
    return np.stack([np.isin(largest, prompt.spans[role]).mean(-1) for role in ("answer", "other")])
