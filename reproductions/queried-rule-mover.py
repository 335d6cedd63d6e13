"""Queried-rule movers take what was found out about the queried letter of a logic puzzle to the place of the answer.

Claim      In "T or N implies P. H implies W. … state the truth value of W. Answer:" the head attends from the last
           token to the queried letter or the tokens after it, whichever rule is asked for; its output from the prompt
           that asks for the other rule moves the first word of the answer towards that of the other prompt
           (hong2024how).
Stimuli    Puzzles of two rules and three facts in three wordings, after one or two solved ones; the authors have
           one wording, four solved ones and longer answers, which small contexts cannot hold. The corrupted prompt asks
           for the other rule and is the same otherwise.
Score      The product of the authors' two measures. Patching the head at the last token from the corrupted prompt: what
           share of the distance between the two prompts' logit differences it takes. And the attention from the last
           token to the queried letter and the two tokens after it, as a share of that to the last puzzle.
Control    The same, patched from the puzzle with its facts in another order, so that the answer stands.
Behaviour  How often the letter that the proof starts from has a larger logit than that of the corrupted prompt.
Cause      At the last token the heads found give what they give in the corrupted prompt: the right letter should lose
           its lead. The authors also run the circuit alone, with the movers and without.
"""

import random

import numpy as np
from numpy.typing import NDArray

from headatlas.lab import OpenModel, Scores, logit_difference, pattern_scores
from headatlas.lab.ablation import patch_sweeps
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, logic_puzzles

FAMILIES = {"implies": 1, "if then": 2, "arrows": 2}  # how many solved puzzles come before
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True
LOOKED_AT = 3  # tokens from the queried letter on
TINY = 1e-8  # so that a head without attention to the puzzle has a share of nothing


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A puzzle after solved ones, with its corrupted prompt and its alternative."""
    return logic_puzzles.short_puzzle_prompt(vocab, family, FAMILIES[family], rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the effect that each head has at the end, times its attention to the question: [prompt layer
    head].
    """
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["facts"] for prompt in prompts])
    swept = patch_sweeps(model, prompts, EFFECT, sources, "last")
    looks = pattern_scores(model, prompts, share)
    score, null = (each.normalized_effect(swept[0]) * looks for each in swept)
    return Scores(score, null)


def share(prompt: Prompt, pattern: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attention from the last token to the queried letter and what follows, of that to the puzzle: [layer head]."""
    (query,) = prompt.spans["query"]
    asked, puzzle = list(range(query, query + LOOKED_AT)), list(prompt.spans["puzzle"])
    found: NDArray[np.float64] = pattern[..., -1, asked].sum(-1) / (pattern[..., -1, puzzle].sum(-1) + TINY)
    return found
