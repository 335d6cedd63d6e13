"""Uncertainty-aware heads look at the token before while an answer is right, and less so where it goes wrong.

Claim      In each layer, the head that looks most at the previous token over an answer looks at it less from tokens
           that are wrong, so that it helps to tell wrong answers from right ones (vazhentsev2026efficient).
Stimuli    Facts about countries and things, stated in three wordings, and as the answer to a question in a chat, ended
           with the right object and with the wrong ones that the model finds likeliest. The authors let models answer
           and take tokens of wrong answers; here the two answers differ in one token alone.
Score      From the object, the attention to the token before it: that of the right object minus that of the likeliest
           wrong one. It counts for one head in each layer, that with the largest mean attention to the previous token
           over the statements; all others have 0. The authors choose this head for each answer anew, or once on other
           texts, and use the middle third of the layers.
Control    The same for the likeliest wrong object minus the next likeliest, which is wrong as well.
Behaviour  How often the right object has a larger logit than all others of its kind.
Cause      The heads found are replaced by their mean over other facts: the right object should lose its lead. The
           authors claim no such thing; they use the attention as a sign only.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attention.pairs import PairQuestion, attention_between
from headatlas.lab.running import accuracy_among_rivals
from headatlas.lab.running.metrics import predicted_candidate
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, stated_facts

FAMILIES = {  # how a capital is stated and asked for; other relations have their wordings of the same places
    "plain": ("The capital of{subject} is", ""),
    "turned": ("In{subject} the capital is", ""),
    "third": ("The capital city of{subject} is", ""),
    "in a chat": ("The capital of{subject} is", "What is the capital of{subject}?"),
}
BEHAVIOUR, EFFECT, CHAT = accuracy_among_rivals, logit_difference, True
NEEDS_BEHAVIOUR = True  # right and wrong objects are nothing to a model that does not know the facts


def task(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A fact up to its object."""
    return stated_facts.prompt(vocab, rng, *FAMILIES[family])


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much less each head looks back from a wrong object, and from another wrong one: [prompt layer head]."""
    first = likeliest_wrong(model, sample.prompts)
    second = likeliest_wrong(
        model, [without(prompt, token) for prompt, token in zip(sample.prompts, first, strict=True)]
    )
    asked = []
    for prompt, *wrong in zip(sample.prompts, first, second, strict=True):
        end, told = len(prompt.tokens), prompt.spans["stated"]
        for token in (prompt.readouts[-1].answer, *wrong):
            text = (*prompt.tokens, token)
            asked += [PairQuestion(text, ((end, end - 1),)), PairQuestion(text, tuple((at, at - 1) for at in told))]
    looks = attention_between(model, asked).reshape(len(sample.prompts), 3, 2, *model.anatomy.empty(1).shape[1:])
    right, wrong, other = looks[:, :, 0].swapaxes(0, 1)
    most = looks[:, :, 1].mean((0, 1))  # [layer head]
    chosen = most == np.nanmax(most, -1, keepdims=True)
    return Scores((right - wrong) * chosen, (wrong - other) * chosen)


def likeliest_wrong(model: OpenModel, prompts: list[Prompt]) -> list[int]:
    """Of each prompt's rivals, the one with the largest logit."""
    wrong = [
        replace(prompt, readouts=(replace(last, answer=last.rivals[0], rivals=last.rivals[1:]),))
        for prompt in prompts
        for last in prompt.readouts[-1:]
    ]
    return [int(token) for token in metric_per_prompt(model, wrong, predicted_candidate)]


def without(prompt: Prompt, token: int) -> Prompt:
    """The prompt with one rival fewer."""
    last = prompt.readouts[-1]
    return replace(prompt, readouts=(replace(last, rivals=tuple(each for each in last.rivals if each != token)),))
