"""Query-focused retrieval heads look from a question at the document that answers it.

Claim      Where a question follows documents, the tokens of the question attend, on these heads, to the document that
           answers it, more than those of an empty query do (zhang2025queryfocused).
Stimuli    Four notes, who put what where, then a request to find one and a question that names the thing, the owner or
           both; once more as a turn of a chat. The authors use long documents, of conversations and encyclopedias. The
           words of the question come back in the note, so that a head that finds them again scores as well.
Score      The QR score of the authors' code: the attention to each token of the right note, averaged over the tokens of
           the question and all that follows, minus the same for the query N/A, summed over the tokens that do not lie
           more than two standard deviations below their mean. Their code also averages over the request before the
           question, which is the same for both queries and so only makes the score smaller.
Control    The score of the same note where the question is for another note.
Behaviour  How often the place told in the right note has a larger logit than those of the other notes, after
           "It is in the".
Cause      The heads found are replaced by their mean over questions for other notes: the right place should lose its
           lead. The authors choose documents by the heads' attention, and take no head away.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, documents

FAMILIES = {  # the question, and whether it is asked in a chat
    "the thing": (" Where is the {thing}?", False),
    "the owner": (" Where is what {owner} put away?", False),
    "both": (" Where did {owner} put the {thing}?", False),
    "both, in a chat": (" Where did {owner} put the {thing}?", True),
}
BEHAVIOUR, EFFECT, CHAT = accuracy_among_rivals, logit_difference, True
NOTES = 4


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Notes and a question; the corrupted prompt asks for another note."""
    question, chat = FAMILIES[family]
    return documents.prompt(vocab, rng, question, NOTES, chat=chat)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same, with the answer begun."""
    question, chat = FAMILIES[family]
    return documents.prompt(vocab, rng, question, NOTES, chat=chat, answered=True)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The QR score of the right note, and that of the same note for another question: [prompt layer head]."""
    asked = []
    for prompt in sample.prompts:
        for text in (prompt.tokens, prompt.corrupted, documents.without_query(model.vocabulary, prompt)):
            queries = range(prompt.spans["query"][0], len(text))
            asked += [PairQuestion(text, tuple((query, key) for query in queries)) for key in prompt.spans["gold"]]
    looks = attention_between(model, asked)  # [prompt*text*key layer head], averaged over queries
    ends = np.cumsum([len(prompt.spans["gold"]) for prompt in sample.prompts for _ in range(3)])[:-1]
    each = np.split(looks, ends)
    score, null = (
        np.stack([qr_score(*pair) for pair in zip(each[text::3], each[2::3], strict=True)]) for text in (0, 1)
    )
    return Scores(score, null)


def qr_score(looks: NDArray[np.float64], empty: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over tokens of a document, without those far below their mean: [key layer head] -> [layer head]."""
    more = looks - empty
    lowest = more.mean(0) - 2 * more.std(0, ddof=1)
    found: NDArray[np.float64] = np.where(more > lowest, more, 0.0).sum(0)
    return found
