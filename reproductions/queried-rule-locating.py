"""Queried-rule locating heads look, in a logic puzzle, from the letter that is asked for at the rule that ends in it.

Claim      In "T or N implies P. H implies W. … state the truth value of W. Answer:" the head attends from the queried
           letter mainly to the rule that concludes it; its output from the prompt that asks for the other rule moves
           the first word of the answer towards that of the other prompt (hong2024how).
Stimuli    Puzzles of two rules and three facts in three wordings, after one or two solved ones; the authors have
           one wording, four solved ones and longer answers, which small contexts cannot hold. The corrupted prompt asks
           for the other rule and is the same otherwise.
Score      The authors' statistic: attention from the queried letter to the queried rule and its full stop, as a share
           of the attention to the last puzzle. A head that looks at the same letter wherever it stood does as well:
           whether the answer rests on it, only the cause tells.
Control    The same attention to the same rule in the corrupted prompt, where the other rule is asked for.
Behaviour  How often the letter that the proof starts from has a larger logit than that of the corrupted prompt.
Cause      At the queried letter the heads found give what they give in the corrupted prompt: the right letter should
           lose its lead.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference, pattern_scores
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, logic_puzzles

FAMILIES = {"implies": 1, "if then": 2, "arrows": 2}  # how many solved puzzles come before
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, [-4]
TINY = 1e-8  # so that a head without attention to the puzzle has a share of nothing


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A puzzle after solved ones; the queried letter is the fourth token from the end."""
    return logic_puzzles.short_puzzle_prompt(vocab, family, FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of attention that the rule gets when it is asked for, and when it is not: [prompt layer head]."""
    score, null = (pattern_scores(model, sample.prompts, share, corrupted) for corrupted in (False, True))
    return Scores(score, null)


def share(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attention from the queried letter to the rule, of that to the whole puzzle: [layer head]."""
    (query,) = prompt.spans["query"]
    rule, puzzle = (pattern[..., query, list(prompt.spans[role])].sum(-1) for role in ("rule", "puzzle"))
    found: NDArray[np.float64] = rule / (puzzle + TINY)
    return found
