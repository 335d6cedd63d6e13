"""Arithmetic heads carry one number of a sum to the place where the result is computed.

Claim      At the end of "12 + 7 =" the head attends to one number, and its output there matters for the result, which
           MLPs compute from what such heads bring (nikankin2025arithmetic; stolfo2023mechanistic).
Stimuli    Sums of two numbers up to 20, in words and with signs. In the corrupted prompt one of the two numbers, drawn
           at random, is another of as many tokens. The papers take a random other prompt, and four operators; as one
           number stays, it is known which one a head must bring, and what result it would give. Where a tokenizer
           writes numbers digit by digit, the results are read at the first digit in which they differ, after those
           they have in common.
Score      Activation patching at the last token, from the corrupted prompt: what share of the corrupted prompt's whole
           effect on the logit difference of the two results it has, times the attention from the last token to the
           number that is changed. A head that brings one of the two numbers has no effect where the other is changed,
           in half of the prompts.
Control    The same effect, times the attention to the number that stays.
Behaviour  How often the right result, or its digit that is read, is the likeliest next token.
Cause      The heads found give, at the last token, what they gave in the corrupted prompt: the right result should lose
           its lead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, accuracy, attention_scores, logit_difference, sweep
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, Vocabulary, steps
from headatlas.stimuli.cases import first_usable, in_same_places

FAMILIES = {
    "the sum of": "The sum of{first} and{second} is",
    "sum, with signs": "Sum:{first} +{second} =",
    "signs alone": "{first} +{second} =",
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A sum, cut before its result; from the end to the number that the corrupted prompt changes, and to the one that
    stays.
    """
    return first_usable(lambda: addition(vocab, FAMILIES[family], rng))


def addition(vocab: Vocabulary, form: str, rng: random.Random) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    changed = rng.randrange(2)
    case = steps.addition("train", rng, form, changed)
    read, corrupted = in_same_places(vocab, case.segments, case.corrupted)
    result, other = (
        sum(int(part.text) for part in each if part.role == "addend") for each in (case.segments, case.corrupted)
    )
    shared, right, wrong = vocab.told_apart(f" {result}", f" {other}")
    tokens = read.ids + shared
    spans = [span for span, role in zip(read.spans, read.roles, strict=True) if role == "addend"]
    pairs, others = (tuple((len(tokens) - 1, key) for key in range(*spans[each])) for each in (changed, 1 - changed))
    return Prompt(tokens, corrupted.ids + shared, pairs, others, (Readout(len(tokens) - 1, right, (wrong,)),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the effect that each head has, times its attention to either number: [prompt layer head]."""
    prompts = sample.prompts
    share = sweep(model, prompts, EFFECT, "resample", "last").normalized_effect()
    looks = attention_scores(model, [replace(prompt, corrupted=prompt.tokens) for prompt in prompts])
    return Scores(share * looks.score, share * looks.null)
