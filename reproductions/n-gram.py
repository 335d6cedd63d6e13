"""N-gram heads look at what followed the last few tokens when they stood together before.

Claim      The head attends, evenly, to every place whose n preceding tokens are the last n tokens, and to no other, so
           that its output is the n-gram statistics of the context (akyurek2024incontext).
Stimuli    Random tokens in which the same n - 1 tokens come back six times, after three different tokens and before
           three different ones, each twice: a match of n - 1 tokens leads to six places, one of n to two. Fresh random
           tokens stand between, and the order is random. The text ends with one of the three n-grams again.
Score      The attention from the end to the two places after that n-gram. For heads of pretrained models no score has
           been published; this is that of the definition.
Control    The same, to the same places, where the text ends with another of the three n-grams.
Behaviour  How often the token that followed the n-gram has a larger logit than those that followed the others.
Cause      The heads found read the corrupted prompt: the right token should lose its lead.
"""

import random
from itertools import islice

from headatlas.lab import logit_difference
from headatlas.lab.running import accuracy_among_rivals
from headatlas.stimuli import Prompt, Readout, Vocabulary

FAMILIES = {"2-grams": 2, "3-grams": 3, "4-grams": 4}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
WAYS, TIMES = 3, 2  # first tokens of the n-grams, and how often each n-gram stands in the text


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """N-grams that differ in their first token alone, and what followed each; then one of them again."""
    order = rng.sample([*range(WAYS)] * TIMES, WAYS * TIMES)
    drawn = iter(vocab.draw(rng, FAMILIES[family] + 2 * WAYS + 2 * len(order)))
    shared = list(islice(drawn, FAMILIES[family] - 1))
    firsts, nexts = list(islice(drawn, WAYS)), list(islice(drawn, WAYS))
    text, after = list(vocab.bos), []
    for way in order:
        text += [*islice(drawn, rng.randint(1, 2)), firsts[way], *shared, nexts[way]]
        after.append((len(text) - 1, way))
    asked, other = rng.sample(range(WAYS), 2)
    text.append(next(drawn))
    tokens, corrupted = ((*text, firsts[way], *shared) for way in (asked, other))
    end = len(tokens) - 1
    return Prompt(
        tokens=tokens,
        corrupted=corrupted,
        pairs=tuple((end, place) for place, way in after if way == asked),
        readouts=(Readout(end, nexts[asked], tuple(token for token in nexts if token != nexts[asked])),),
    )
