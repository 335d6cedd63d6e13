"""Position detectors look, at the label in a question, at the same label in the list, and note its place there.

Claim      In "The apple is in Box F, the bread is in Box A. Box A contains the", heads at the second "A" attend to the
           first and bring its place in the list to the question, where heads at the last token read it
           (prakash2024finetuning).
Stimuli    Things in three or four boxes and a question for one, after the authors, who have seven boxes; and the same
           in numbered sentences. The corrupted prompt has other things and other labels, and asks for another place.
Score      The product of two tests. By what share of its mean size the right thing's lead over the thing at that other
           place falls when the head alone, at the label in the question, gives what it gave on the corrupted prompt: as
           no thing or label is shared, the place alone can tell those two apart. And the attention from that label to
           the same label in the list. The authors patch the path into the values of the heads that transmit; here every
           later head counts.
Control    The same, patched from a prompt with those other things and labels that asks for the same place.
Behaviour  How often the right thing has the largest logit of those in the list.
Cause      At the label in the question, two tokens before the last, the heads found give what they gave on the
           corrupted prompt: the right thing should lose its lead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import patch_sweeps
from headatlas.lab.attention import attention_on_pairs
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, boxes

FAMILIES = {"three boxes": (3, False), "four boxes": (4, False), "numbered": (3, True)}  # and whether sentences are
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, [-3]
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Things in boxes; the pair leads from the label in the question to the same label in the list."""
    drawn = boxes.contents(vocab, *FAMILIES[family], rng)
    return replace(drawn, pairs=((drawn.spans["asked"][0], drawn.spans["label"][0]),))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that moves to the other place, times the attention to the label: [prompt layer head]."""
    prompts = [boxes.against_other_place(prompt) for prompt in sample.prompts]
    sources = (None, [prompt.alternatives["same place"] for prompt in prompts])
    swept = patch_sweeps(model, prompts, logit_difference, sources, POSITIONS)
    lead = abs(swept[0].clean).mean()
    looks = attention_on_pairs(model, prompts)
    score, null = (-each.effect_per_prompt / lead * looks for each in swept)
    return Scores(score, null)
