"""Task learning heads write, within the space of a task's labels, towards the one that is right for the last example.

Claim      At the end of a prompt with labelled examples the head raises the right label above the wrong ones, for the
           length of what it writes into the space of the labels. Without such heads the answer is still one of the
           labels, but more often the wrong one (yang2025localizing).
Stimuli    Eight examples of two classes with their labels, then one more: kinds of things with arbitrary labels,
           written in two ways, and opinions of shows with natural labels. In the corrupted prompt the two labels are
           swapped. The paper takes seven sets of sentences with natural labels, eight examples too.
Score      The TL score: what the head writes at the last token along the difference of the right label's unembedding
           and the mean of the wrong ones', divided by the length of its projection onto the space of the labels. The
           difference is scaled to length 1, so that the score is a cosine; the mean unembedding, which changes no
           probability, is taken away first. The paper does neither.
Control    The same, towards the same label, in the corrupted prompt, whose examples say the other one: a head that goes
           by what label and text mean, and not by the examples, writes there what it writes in the prompt.
Behaviour  How often the right label is likelier than the wrong one.
Cause      At the last token the heads found give what they give in the corrupted prompt: the right label should lose
           its lead. The paper replaces their outputs by random ones.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attribution import label_space
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary
from headatlas.stimuli.labelled_examples import What, labelled
from headatlas.stimuli.mappings import PairFormat

# What is labelled; and what stands before it, before its label and behind that.
FAMILIES: dict[str, tuple[What, PairFormat]] = {
    "kinds": ("kinds", ("", " ->", ",")),
    "kinds, asked for": ("kinds", (" Q:", " A:", ".")),
    "opinions": ("opinions", ("", ":", ";")),
}
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
LEAST = 1e-9  # a head that writes nothing into the space does not write towards a label


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Labelled examples and one more; corrupted, the same with the labels swapped."""
    return labelled(vocab, rng, *FAMILIES[family], changed="swapped")


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The cosine between what each head writes into the space and the way to the right label: [prompt layer head]."""
    true, swapped = (label_space(model, sample.prompts, corrupted) for corrupted in (False, True))
    return Scores(true.toward / (true.length + LEAST), swapped.toward / (swapped.length + LEAST))
