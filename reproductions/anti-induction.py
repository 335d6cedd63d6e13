"""Anti-induction heads find what followed the current token before, and make it less likely.

Claim      On repeated text [A][B] … [A] the head writes against [B], the token that induction heads raise. In GPT-2
           small the same heads suppress copies in sentences (mcdougall2024copy; olsson2022incontext).
Stimuli    Random tokens, written two, three or five times; read at a random place of the last copy.
Score      The head's direct effect on the logit of the right next token, counting only what it takes from the places
           after the earlier copies, with its sign reversed. The logit is taken above the mean of thirty tokens that
           are not in the text, so that raising all logits counts for nothing; the paper reads all places of a second
           copy of thirty tokens.
Control    The same, between the same places, where the last copy is fresh random tokens: nothing is expected.
Behaviour  How often the right next token is the likeliest.
Cause      The heads found are replaced by their mean over the corrupted prompts: the right next token should become
           likelier.
"""

import random

from headatlas.lab import OpenModel, Scores, accuracy, logit_difference
from headatlas.lab.attribution import direct_effects
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary

FAMILIES = {"thirty, twice": (30, 2), "twenty, three times": (20, 3), "twelve, five times": (12, 5)}
BEHAVIOUR, EFFECT = accuracy, logit_difference
OTHERS = 30  # tokens that are not in the text


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span of random tokens, written as many times as the family says, and cut somewhere in the last copy."""
    length, copies = FAMILIES[family]
    drawn = vocab.draw(rng, length + OTHERS)
    span, others = drawn[:length], drawn[length:]
    cut = rng.randint(2, length - 1)  # tokens of the last copy that are shown
    fresh = vocab.draw(rng, cut)
    end = len(vocab.bos) + length * (copies - 1) + cut - 1
    return Prompt(
        tokens=vocab.bos + span * (copies - 1) + span[:cut],
        corrupted=vocab.bos + span * (copies - 1) + fresh,
        pairs=tuple((end, end - length * back + 1) for back in range(1, copies)),
        readouts=(Readout(end, answer=span[cut], rivals=others),),
    )


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much each head lowers the right next token by what it takes from the places after earlier copies."""
    places = [[key for _, key in prompt.pairs] for prompt in sample.prompts]
    raised, otherwise = (direct_effects(model, sample.prompts, places, corrupted=fresh) for fresh in (False, True))
    return Scores(-raised, -otherwise)
