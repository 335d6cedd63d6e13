"""Task recognition heads write, after some examples, which labels the task has, whichever of them is right.

Claim      At the end of a prompt with labelled examples, a large part of what the head writes lies in the space of the
           labels, which their unembeddings span. Without such heads the answer is no longer one of the labels
           (yang2025localizing).
Stimuli    Eight examples of two classes with their labels, then one more: kinds of things with arbitrary labels,
           written in two ways, and opinions of shows with natural labels. In the corrupted prompt two other labels
           replace these. The paper takes seven sets of sentences with natural labels, eight examples too.
Score      The TR score: the length of the projection of what the head writes at the last token onto the space of the
           labels, as a share of the length of that of the last residual stream, so that models compare. The mean
           unembedding, which changes no probability, is taken away first. The paper takes the length itself.
Control    The same projection onto the same space in the corrupted prompt, whose labels are others. (The theorem of the
           paper compares with other spaces of the same dimension.)
Behaviour  The TR ratio: how often the likeliest next token is one of the labels.
Cause      At the last token the heads found give what they give in the corrupted prompt: the log-odds that the next
           token is one of the labels should fall. The paper replaces their outputs by random ones.
"""

import random

from torch import Tensor

from headatlas.lab import OpenModel, Scores
from headatlas.lab.attribution import label_space
from headatlas.lab.running import log_odds_of_candidates
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
POSITIONS = "last"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Labelled examples and one more; corrupted, the same with other labels."""
    return labelled(vocab, rng, *FAMILIES[family], changed="others")


def is_label(logits: Tensor, answers: Tensor, rivals: Tensor) -> Tensor:
    """Share of readouts at which the answer or a rival has the largest logit in the vocabulary."""
    likeliest = logits.argmax(-1)
    return ((likeliest == answers) | (likeliest[..., None] == rivals).any(-1)).float().mean(-1)


BEHAVIOUR, EFFECT = is_label, log_odds_of_candidates


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The length of what each head writes into the space of the labels, as a share: [prompt layer head]."""
    true, others = (label_space(model, sample.prompts, corrupted) for corrupted in (False, True))
    return Scores(true.length / true.stream.mean(), others.length / true.stream.mean())
