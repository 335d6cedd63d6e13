"""In-context heads compare a new example with those before it, and pass on the label of those that are most alike.

Claim      Where examples carry the labels "foo" and "bar", a few deep heads decide: the last position is compared with
           the label positions, and the label that stands where an example is alike is brought over (yu2024how).
Stimuli    Words of two kinds, each kind with its label, then a new word of either: "cat -> foo, apple -> bar, dog ->".
           It is never among the examples, so that there is nothing to match but likeness. Three ways of writing.
Score      What the head writes directly into the logit of the right label, minus the other, from the label positions
           alone, as a share of the mean difference. The source takes the gain in log-probability at the head's own
           layer, from all positions; the final norm's scale and the restriction are ours.
Control    The same prompt with the two labels swapped, for the same label: a head that copies the more frequent, the
           last or always the same label has no lead over it; one that goes by likeness turns against it.
Behaviour  How often the right label has the larger logit.
Cause      The heads found are replaced by their mean over the corrupted prompts, and the lead of the right label should
           shrink. The source sets their parameters to zero, which is off-distribution.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, mappings
from headatlas.stimuli.cases import with_pairs

FAMILIES = {  # what stands before a word, before its label, and before the next word
    "arrows": ("", " ->", ","),
    "colons": ("", ":", ";"),
    "questions": (" Q:", " A:", "."),
}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
NEEDS_BEHAVIOUR = True
SHOTS = 6
LABELS = ("foo", "bar")


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Six labelled words and a seventh, to be labelled; heads should look from its end at the labels."""
    labels, form = vocab.singles(LABELS, at_least=2), FAMILIES[family]
    drawn = with_pairs(vocab, lambda: mappings.few_shot_labels("train", rng, SHOTS, form, labels), "label")
    return replace(drawn, readouts=drawn.readouts[-1:])


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the mean lead that each head brings from the labels, and from the swapped ones."""
    whole = abs(metric_per_prompt(model, sample.prompts, logit_difference).mean())
    labels = [[key for _, key in prompt.pairs] for prompt in sample.prompts]
    score, null = (direct_effects(model, sample.prompts, labels, corrupted=swapped) for swapped in (False, True))
    return Scores(score / whole, null / whole)
