"""Decision heads look at nothing but the letter that the answer of a small proof must begin with.

Claim      In a puzzle of two rules and three facts, the head attends at the last position to the occurrences of the
           right letter, in the rule that is asked about and in the right fact, and what it gives decides which letter
           the answer begins with (hong2024how).
Stimuli    Those of fact-processing heads: four solved puzzles, fewer for a tokenizer that says its model has no room
           for them, and one to be solved, in three wordings. In the corrupted prompt the question is for the conclusion
           of the other rule: one letter differs.
Score      The product of the authors' two measures. The attention from the last token to the two letters, as a share of
           the attention to the last puzzle. They take the first letter of the rule even where it is the false one of
           two premises; here it is the true one. And activation patching of the head from the corrupted prompt: by what
           share the logit difference moves to the other answer. They patch from the question's letter to the end; here
           the last token alone is patched, where they let these heads work in their check of the circuit.
Control    The same with the attention in the corrupted prompt to the same two letters, which are now the wrong ones.
Behaviour  How often the right letter has a larger logit than that of the fact for the other rule.
Cause      At the last token the heads found give what they give in the corrupted prompt: the lead of the right letter
           should fall. The authors remove the heads of this family from a circuit in the same way.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, sweep
from headatlas.lab.attention import attention_shares
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, logic_puzzles

FAMILIES = {"implies": "implies", "if and then": "if", "follows from": "follows"}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A puzzle after four solved ones; pairs lead from its end to the right letter, in its rule and in its fact."""
    made = logic_puzzles.puzzle_prompt(vocab, rng, logic_puzzles.WORDINGS[FAMILIES[family]])
    letters = (*made.spans["right premise"], *made.spans["right letter"])
    return replace(made, pairs=tuple((len(made.tokens) - 1, key) for key in letters))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of attention on the right letter, times the share of the shift between answers: [prompt layer head]."""
    prompts = sample.prompts
    swept = sweep(model, prompts, EFFECT, "resample", "last")
    moved = swept.normalized_effect()
    looks = attention_shares(
        model, prompts, lambda prompt: tuple((len(prompt.tokens) - 1, key) for key in prompt.spans["problem"])
    )
    return Scores(looks.score * moved, looks.null * moved)
