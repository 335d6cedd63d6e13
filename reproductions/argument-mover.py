"""Argument movers look, where a docstring names the next argument, at it in the definition, and write its name.

Claim      In "def load(self, files, obj, state, size, shape, option): … :param state: … :param size: … :param", heads
           at the last token attend to "shape" in the definition and write it into the logits (heimersheim2023circuit).
Stimuli    Python functions with six arguments, of which the docstring names the third and fourth, so that the number of
           the line does not tell which is next, as in the authors' generator: lines with ":param", and arguments with a
           default. Lines with "@param" replace its lines below "Args:", as some tokenizers join the spaces before a
           name there. In the corrupted prompt the docstring names words that are no arguments. Names are single tokens.
Score      What the head, through its attention to the argument in turn, writes directly into that argument's logit,
           less the mean of the other five, as a share of the mean size of the model's lead. The authors' graph has the
           heads whose output reaches the logits, and their metric takes the best of the others, not the mean.
Control    In the corrupted prompt, what it writes from the same place into the same logits: a head that says all
           arguments, or looks there by position, is no mover.
Behaviour  How often the argument in turn has the largest logit of the six.
Cause      At the last token the heads found give what they gave on the corrupted prompt: the argument should lose its
           lead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, docstrings

FAMILIES = {  # what stands before a name in the docstring, and whether arguments have defaults
    "reST": (":param", False),
    "Epytext": ("@param", False),
    "reST with defaults": (":param", True),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A function and the beginning of its docstring; the pair leads to the argument in turn."""
    drawn = docstrings.next_argument(vocab, *FAMILIES[family], rng)
    return replace(drawn, pairs=((drawn.readouts[-1].position, drawn.spans["turn"][0]),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes from the argument, in turn and not, as a share of the lead: [prompt layer head]."""
    prompts = sample.prompts
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()
    turns = [prompt.spans["turn"] for prompt in prompts]
    score, null = (direct_effects(model, prompts, turns, corrupted) / lead for corrupted in (False, True))
    return Scores(score, null)
