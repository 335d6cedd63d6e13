"""Greater-than heads carry the start year to where a later year is to be written.

Claim      In "The war lasted from the year 1732 to the year 17" the head attends from the end to 32, and what it brings
           there makes MLPs, or itself, favour larger numbers (hanna2023how).
Stimuli    Spans of years of the centuries 11 to 17, in three wordings. The corrupted prompt begins in the year 02,
           where that of the authors begins in 01, so that it is a year like others: models with few words may never
           have seen 01. Where a tokenizer writes numbers digit by digit, the first digit that is to be written decides,
           and the first digit of the start year is 3 in 32.
Score      Both halves of the definition: the attention from the last token to the start year, times how much the
           probability difference falls when the head's path to the logits, through MLPs and no other head, is patched
           from the corrupted prompt. The authors patch the paths to late MLPs and to the logits one by one.
Control    The same with the path patched from a sentence about another event, in which no year is another.
Behaviour  The probability difference: that of all two-digit numbers above the start year, minus that of all others; and
           from it taken the same in the corrupted prompt, since a model that says high numbers after any year has the
           first too. Digit by digit: that of digits above the first digit of the start year, minus that of those below.
Cause      At the last token the heads found give what they give in the corrupted prompt: the probability difference
           should fall.
"""

import random
from dataclasses import replace

import numpy as np

from headatlas.lab import OpenModel, Scores
from headatlas.lab.attention import pair_weights
from headatlas.lab.paths import path_effects_from
from headatlas.lab.running import probability_difference
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Readout, UntestableError, Vocabulary, steps
from headatlas.stimuli.cases import first_usable, in_place, tokenize

FAMILIES = {
    "lasted from ... to": "The{event} lasted from the year{century}{year} to the year{century}",
    "began in ... ended in": "The{event} began in{century}{year} and ended in{century}",
    "from ... until": "From{century}{year} on there was a{event}, until{century}",
}
BEHAVIOUR = EFFECT = probability_difference
CONTRAST, POSITIONS = True, "last"
COST = "paths"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A span of years, with its corrupted prompt and an alternative; years are in halves, as the tokenizer itself would
    split them.
    """
    endings = steps.year_endings(vocab)

    def draw() -> Prompt:
        case = steps.greater_year("train", rng, FAMILIES[family], corrupted=2)
        drawn, places = in_place(vocab, case)
        event, year = (next(part.text for part in case.segments if part.role == role) for role in ("event", "year"))
        other = f" {rng.choice([each for each in steps.EVENTS if each != event.strip()])}"
        parts = [replace(part, text=other) if part.role == "event" else part for part in case.segments]
        renamed = tokenize(vocab, parts).ids
        if vocab.bos + vocab.encode(case.text) != drawn.tokens or len(renamed) != len(drawn.tokens) or year == "02":
            raise UntestableError("a year is not split into two halves, or two events differ in length")
        last = len(drawn.tokens) - 1
        readouts = tuple(Readout(last, first, tuple(others)) for first, *others in endings.sides(int(year)))
        return replace(
            drawn, pairs=((last, places.covers("year")[0]),), readouts=readouts, alternatives={"other event": renamed}
        )

    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Attention to the start year times the loss of probability difference: [prompt layer head]."""
    prompts, sources = sample.prompts, (None, [prompt.alternatives["other event"] for prompt in sample.prompts])
    looks = np.stack(pair_weights(model, prompts))[..., 0]
    score, null = -looks * path_effects_from(model, prompts, BEHAVIOUR, sources).effects
    return Scores(score, null)
