"""Copying heads of retrieval-augmented generation keep an answer close to the text that it is about.

Claim      Where an answer is true to a text, the tokens of the text that a head attends to have final states more like
           those of the answer than where it contradicts the text. The heads of which that is most so are often those
           whose output-value circuit copies, and disturbing these makes true answers less likely (sun2025redeep).
Stimuli    A story in which a capital or a language is told, rightly or wrongly, and the question for it, answered with
           the right and with the wrong one: two texts and two answers, so that each is true to one text and false to
           the other. In a chat, too. The learned answer to the wrong text is what a model says that does not go by the
           text. The authors use answers that models wrote, marked by people.
Score      The external context score: the cosine of the final state of a token of the answer with the mean final state
           of the tenth of the text that the head attends to most, averaged over the answer and its full stop. How often
           it is larger for a true answer than for a false one, minus how often it is smaller, over the four pairs of
           each prompt; times the head's copying score, the share of the countries in the texts that its output-value
           circuit raises among five tokens. The authors correlate the two, and estimate copying by trace and
           Gershgorin's circles.
Control    The same for what text is told instead of what is true: two texts, each with both answers.
Behaviour  How often the answer that the text tells wrongly has a larger logit than all others of its kind.
Cause      The heads found are replaced by their mean over texts that tell the facts rightly: the answer of the text
           should become less likely. The authors put noise in place of attention scores, and compare with other heads
           of the layer.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, log_probability
from headatlas.lab.attention.context_similarity import ContextQuestion, external_context_scores
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.weights import copying_in_prompts, places_of
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, facts, grounded_answers

FAMILIES = {  # how a capital is told, sentences of the story, and whether it is told in a chat
    "plain": ("The capital of{subject} is{object}", 2, False),
    "turned": ("In{subject} the capital is{object}", 3, False),
    "object first": ("{object} is the capital of{subject}", 3, False),
    "plain, in a chat": ("The capital of{subject} is{object}", 2, True),
}
BEHAVIOUR, EFFECT, CHAT = accuracy_among_rivals, log_probability, True
COST = "vocabulary"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text and an answer, both wrong; the corrupted prompt has both right, the alternatives have one right."""
    return grounded_answers.prompt(vocab, rng, *FAMILIES[family], answered=True)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text that tells a fact wrongly, up to the answer; in the corrupted prompt it tells it rightly."""
    return grounded_answers.prompt(vocab, rng, *FAMILIES[family], answered=False)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The lead of true answers over false ones, times copying; the null is that of one text: [prompt layer head]."""
    said = [
        ContextQuestion(text, prompt.spans["answer"], prompt.spans["context"])
        for prompt in sample.prompts
        for text in (prompt.tokens, prompt.corrupted, *prompt.alternatives.values())
    ]
    scores = external_context_scores(model, said)
    here, there, denied, swapped = (scores[number::4] for number in range(4))
    words = [model.vocabulary.one_token(f" {word}") for word in model.vocabulary.singles(facts.COUNTRIES)]
    copying = copying_in_prompts(
        model, sample.prompts, places_of(sample.prompts, words)
    ).copying.numpy()  # [layer head]
    return Scores(lead((here, there), (denied, swapped)) * copying, lead((here, denied), (there, swapped)) * copying)


def lead(
    first: tuple[NDArray[np.float64], NDArray[np.float64]], second: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """How often one of the first is larger than one of the second, minus how often smaller: -1 to 1, 0 by chance."""
    found: NDArray[np.float64] = np.mean([np.sign(one - other) for one in first for other in second], 0)
    return found
