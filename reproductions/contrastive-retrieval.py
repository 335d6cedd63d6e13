"""Contrastive retrieval heads look from a question at the document that answers it rather than at those that nearly do.

Claim      A few heads, mostly of the middle layers, put more of a query's attention on the document that answers it
           than on hard negatives, and rank documents better than all heads together do (tran2025contrastive).
Stimuli    Five notes, who put what where, then a request to find one and a question that names thing and owner. One
           other note has the same thing, the same owner, or neither; once more as a turn of a chat. The authors use
           passages that a retriever ranks high without being right.
Score      The CoRe score of the authors' code: the attention to each note, averaged over the tokens of the question and
           summed over the note's, through a softmax over notes of temperature 0.001; the share of the right note. So
           low a temperature asks which note gets most, by however little. Their code also averages over the request
           before the question.
Control    The share of the same note where the question is for the other note.
Behaviour  How often the place told in the right note has a larger logit than those of the other notes, after
           "It is in the".
Cause      The heads found are replaced by their mean over questions for other notes: the right place should lose its
           lead. The authors rank documents by the heads' attention, and take no head away.
"""

import random

from scipy.special import softmax

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, documents

QUESTION = " Where did {owner} put the {thing}?"
FAMILIES = {  # what another note has in common with the right one, and whether it is asked in a chat
    "nothing shared": ("", False),
    "same thing": ("thing", False),
    "same owner": ("owner", False),
    "same thing, in a chat": ("thing", True),
}
BEHAVIOUR, EFFECT, CHAT = accuracy_among_rivals, logit_difference, True
NOTES, TEMPERATURE = 5, 0.001


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Notes and a question; the corrupted prompt asks for the note that shares something."""
    shared, chat = FAMILIES[family]
    return documents.prompt(vocab, rng, QUESTION, NOTES, shared=shared, chat=chat)


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """The same, with the answer begun."""
    shared, chat = FAMILIES[family]
    return documents.prompt(vocab, rng, QUESTION, NOTES, shared=shared, chat=chat, answered=True)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the right note among all notes, for the question and for another: [prompt layer head]."""
    asked = [
        PairQuestion(text, tuple((query, key) for query in prompt.spans["query"] for key in prompt.spans[note]))
        for prompt in sample.prompts
        for text in (prompt.tokens, prompt.corrupted)
        for note in ("gold", *(span for span in prompt.spans if span not in ("gold", "query")))
    ]
    looks = attention_between(model, asked)  # [prompt*text*note layer head], the right note first
    share = softmax(looks.reshape(-1, 2, NOTES, *looks.shape[1:]) / TEMPERATURE, 2)[:, :, 0]
    return Scores(share[:, 0], share[:, 1])
