"""Negative heads look at the word No in the instruction, whatever the question is.

Claim      In prompts that name Yes and No as the possible answers, heads attend to No more than to Yes regardless of
           the question, and go with a bias towards the negative answer (yu2025correcting).
Stimuli    Yes-or-no questions about the world, half of them to be answered yes. The two words are named after the
           question, before it, or after it with the fact said first.
Score      The negative attention score: at each position behind the instruction's two words, the attention to both
           times the log ratio of that to No over that to Yes. The mean over positions, where the authors sum, so that
           prompts of different length compare; and over both orders of the two words, so that a preference for the
           later one cancels. Each weight counts as at least one thousandth, since the log ratio has no bound.
Control    The same where two words from everyday life stand in the places of Yes and No.
Behaviour  The logit of No minus that of Yes, over questions of both kinds: is there a bias towards No at all?
Cause      The heads found are replaced by their mean over the corrupted prompts: the lean towards No should shrink. The
           authors fine-tune the heads instead.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention import pair_weights
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, facts
from headatlas.stimuli.cases import Tokens, first_usable, in_place
from headatlas.stimuli.lexicon import THINGS

FAMILIES = {
    "after the question": {"first": False, "stated": False},
    "before the question": {"first": True, "stated": False},
    "after the fact": {"first": False, "stated": True},
}
BEHAVIOUR = logit_difference
REAL = [relation for relation in facts.RELATIONS if relation.real]
FLOOR = 1e-3


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question with Yes and No in one order, in the alternative in the other, in the corrupted prompt with other
    words.
    """
    yes, no = vocab.singles(("Yes", "No"), at_least=2)

    def draw() -> Prompt:
        order, plain = rng.sample((yes, no), 2), rng.sample(vocab.singles(THINGS, at_least=20), 2)
        relation, seed = rng.choice(REAL), rng.random()

        def ask(one: str, other: str) -> tuple[Prompt, Tokens]:
            form = FAMILIES[family]
            return in_place(
                vocab, facts.yes_or_no("train", random.Random(seed), relation, options=(one, other), **form)
            )

        (drawn, places), (turned, _), (other, _) = ask(*order), ask(*order[::-1]), ask(*plain)
        options, last = places.at("option"), len(drawn.tokens) - 1
        spots = [options[order.index(word)] for word in (yes, no)]
        pairs = tuple((query, spot) for query in range(max(options) + 1, last + 1) for spot in spots)
        readout = Readout(last, vocab.continuation(f" {no}")[0], vocab.continuation(f" {yes}"))
        return Prompt(drawn.tokens, other.tokens, pairs, readouts=(readout,), alternatives={"exchanged": turned.tokens})

    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The negative attention score in the prompt and with the two words exchanged, and of the other words."""
    turned = [
        replace(prompt, tokens=prompt.alternatives["exchanged"]) for prompt in sample.prompts
    ]  # No stands where Yes stood
    own, other = (negative_attention(pair_weights(model, prompts)) for prompts in (sample.prompts, turned))
    return Scores((own - other) / 2, negative_attention(pair_weights(model, sample.prompts, corrupted=True)))


def negative_attention(weights: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Of the weights of each prompt, [layer head pair], on Yes and No in turn: [prompt layer head]."""
    each = [np.maximum(weight, FLOOR).reshape(*weight.shape[:2], -1, 2) for weight in weights]
    return np.stack([(both.sum(-1) * np.log(both[..., 1] / both[..., 0])).mean(-1) for both in each])
