"""Constant heads look at all option letters alike: one of them comes next, and the head does not say which.

Claim      At the end of a multiple-choice question the head spreads its attention evenly over the option letters,
           whichever is right (lieberum2023does; zheng2024attention). That it makes the letters likely, against all
           other words, is what the description suggests; no account tells of an ablation.
Stimuli    Four options behind letters, in random order: the right one was just told, is the color of a thing just
           seen, or answers a question about the world. In the corrupted prompt the options stand in another order.
Score      From the last token, the attention to the four letters together, times the entropy of its division among
           them over log 4, prompt by prompt. So a head that follows the right letter scores nothing, and one that
           looks at two letters only one half at most.
Control    The same of the four words behind the letters, in the corrupted prompt: what a head scores that looks at
           options, or at everything, evenly.
Behaviour  The log-odds that the next token is one of the four letters.
Cause      At the last token the heads found are replaced by their mean over the corrupted prompts: the letters should
           become less likely together.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores
from headatlas.lab.attention import pair_weights
from headatlas.lab.running import log_odds_of_candidates
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, multiple_choice_questions
from headatlas.stimuli.cases import first_usable, in_place

FAMILIES = {"told": "told", "color just seen": "color", "fact of the world": "real"}
BEHAVIOUR, POSITIONS = log_odds_of_candidates, "last"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A question with four options; a head should look from its end at the letters, in the corrupted prompt at the
    words.
    """

    def draw() -> Prompt:
        drawn, places = in_place(vocab, multiple_choice_questions.multiple_choice("train", rng, FAMILIES[family]))
        letters, options = (
            tuple((len(drawn.tokens) - 1, key) for key in places.at(role)) for role in ("letter", "option")
        )
        return replace(drawn, pairs=letters, null_pairs=options)

    return first_usable(draw)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """Attention to the letters, as far as it is even: [prompt layer head]."""
    score, null = (even(np.stack(pair_weights(model, sample.prompts, corrupted))) for corrupted in (False, True))
    return Scores(score, null)


def even(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of weights [... key] their sum, times the entropy of their shares over that of equal ones: [...]."""
    total = np.maximum(weights.sum(-1), 1e-12)
    shares = np.maximum(weights / total[..., None], 1e-12)
    return total * -(shares * np.log(shares)).sum(-1) / np.log(weights.shape[-1])  # type: ignore[no-any-return]
