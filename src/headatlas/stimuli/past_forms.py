"""Sentences that ask for the past form of a verb, and the same with a word for the present."""

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from headatlas.stimuli.cases import Case, fill_roles
from headatlas.stimuli.mappings import MAPPINGS
from headatlas.stimuli.prompts import UntestableError, Vocabulary

PAST_FORMS: Mapping[str, str] = MAPPINGS["past"]  # verb -> past form


class TimeFrame(NamedTuple):
    """A sentence with {verb} and {time}, and the word for {time} that asks for the past, or for the present."""

    template: str
    past: str
    present: str


FRAMES: Mapping[str, TimeFrame] = MappingProxyType(
    {
        "today": TimeFrame("Today I{verb},{time} I", " yesterday", " now"),
        "every day": TimeFrame("Every day they{verb}, and{time} they", " yesterday", " now"),
        "most weeks": TimeFrame("Most weeks we{verb}, and{time} week we", " last", " this"),
    }
)


def past_form(words: Vocabulary, rng: random.Random, frame: TimeFrame) -> Case:
    """A verb in the present and the beginning of a sentence about the past; the corrupted prompt is about the present.

    The answer is the past form and the rival the verb itself, each a single token.

    Raises:
        UntestableError: where the tokenizer has fewer than 12 such verbs.
    """
    verbs = [verb for verb, past in PAST_FORMS.items() if len(words.singles((verb, past), at_least=0)) == 2]
    if len(verbs) < 12:
        raise UntestableError(
            f"only {len(verbs)} of {len(PAST_FORMS)} verbs and their past forms are a single token of this tokenizer, "
            "and 12 are needed"
        )
    verb = rng.choice(verbs)
    asked, plain = (
        fill_roles(frame.template, {"verb": (f" {verb}", "verb"), "time": (time, "time")})
        for time in (frame.past, frame.present)
    )
    return Case(asked, (f" {PAST_FORMS[verb]}",), (f" {verb}",), plain)
