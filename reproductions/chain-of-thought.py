"""Chain-of-thought heads write the next word of an argument, taken from what was told or from the steps so far.

Claim      While a model reasons in written steps over categories that nobody knows, heads at the last token write the
           word that comes next so that the unembedding can read it at once (dutta2024how).
Stimuli    Three rules, a fact, and steps up to a word of one of the authors' kinds of sub-task: which rule is next
           ("Max is a wolf. Every"), what it says ("Every wolf is a"), what follows ("Max is a"). One solved chain comes
           before, where the authors have six; categories are common words at random, where the authors invent words.
           In the corrupted prompt a rule or a step says something else, so that another category is right.
Score      The authors' projection: the output of the head at the last token alone, through the final norm and the
           unembedding; here the probability of the right word minus the mean of the other categories of the chain.
           They take the four largest of each trace, of heads that they kept by activation patching.
Control    The same in the corrupted prompt, where the word is as near and wrong.
Behaviour  How often the right word has the largest logit of the five categories of the chain.
Cause      At the last token the heads found give what they give in the corrupted prompt: the right word should lose its
           lead. The authors knock out all heads but those kept.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import head_logit_lens
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, category_chains

FAMILIES: dict[str, category_chains.Task] = {
    "which rule": "decision",
    "what it says": "copying",
    "what follows": "inference",
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
EXAMPLES = 1


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A chain after a solved one, cut before the word of a sub-task."""
    return category_chains.prompt(vocab, FAMILIES[family], EXAMPLES, rng)


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much the output of each head prefers the right word, where it is right and where not: [prompt layer head]."""
    score, null = (head_logit_lens(model, sample.prompts, corrupted) for corrupted in (False, True))
    return Scores(score, null)
