"""Copying heads of retrieval-augmented generation keep an answer close to the text that it is about.

Claim      Where an answer is true to a text, the tokens of the text that a head attends to have final states more like
           those of the answer than where it contradicts the text. The heads of which that is most so are often those
           whose output-value circuit copies, and disturbing these makes true answers less likely (sun2025redeep).
Stimuli    A story that tells three words of somebody and the question for them, answered with these words or with three
           others: two texts and two answers, so that each is true once and false once. In a chat, too. The authors use
           answers that models wrote, marked by people.
Score      The external context score: the cosine of the final state of a word of the answer with the mean final state
           of the tenth of the text that the head attends to most, averaged over the answer. How often it is larger for
           a true answer than for a false one, minus how often it is smaller, over the four pairs of each prompt; times
           the head's copying score, the share of words that its output-value circuit raises among five tokens. The
           authors correlate the two, and estimate copying by the trace of the circuit and Gershgorin's circles.
Control    The same for what text is told instead of what is true: two texts, each with both answers.
Behaviour  How often a word told is the likeliest where it comes next.
Cause      The heads found are replaced by their mean over texts that tell other words: the words told should become
           less likely. The authors put noise in place of attention scores, and compare with other heads of the layer.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, accuracy, copying_scores, log_probability
from headatlas.lab.attention.context_similarity import ContextQuestion, external_context_scores
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, grounded_answers
from headatlas.stimuli.lexicon import THINGS

FAMILIES = {  # sentences of the story, and whether it is told in a chat
    "two sentences": (2, False),
    "three sentences": (3, False),
    "five sentences": (5, False),
    "three sentences, in a chat": (3, True),
}
BEHAVIOUR, EFFECT, CHAT = accuracy, log_probability, True
WORDS = 3


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text, a question and a true answer; the corrupted prompt is true to other words, the alternatives are false."""
    sentences, chat = FAMILIES[family]
    return grounded_answers.prompt(vocab, rng, sentences, WORDS, chat)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The lead of true answers over false ones, times copying; the null is that of one text: [prompt layer head]."""
    said = [
        ContextQuestion(text, prompt.spans["answer"], prompt.spans["context"])
        for prompt in sample.prompts
        for text in (prompt.tokens, prompt.corrupted, *prompt.alternatives.values())
    ]
    scores = external_context_scores(model, said)
    here, there, denied, swapped = (scores[number::4] for number in range(4))
    words = [model.vocabulary.continuation(f" {word}")[0] for word in model.vocabulary.singles(THINGS)]
    copying = copying_scores(model, words, states="mlp0").copying.numpy()  # [layer head]
    return Scores(lead((here, there), (denied, swapped)) * copying, lead((here, denied), (there, swapped)) * copying)


def lead(
    first: tuple[NDArray[np.float64], NDArray[np.float64]], second: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """How often one of the first is larger than one of the second, minus how often smaller: -1 to 1, 0 by chance."""
    found: NDArray[np.float64] = np.mean([np.sign(one - other) for one in first for other in second], 0)
    return found
