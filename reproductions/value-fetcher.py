"""Value fetchers look, at the end of a question for the content of a box, at the thing in it, and write its name.

Claim      In "The apple is in Box F, the bread is in Box A. Box A contains the", heads at the last token attend to the
           thing in the box asked for and write it into the logits (prakash2024finetuning).
Stimuli    Things in three or four boxes and a question for one, after the authors, who have seven boxes; and the same
           in numbered sentences. Things and labels are single tokens. The corrupted prompt has the same list and asks
           for another box; the authors' corrupted prompt has another list as well.
Score      What the head, through its attention to the thing asked for, writes directly into that thing's logit, less
           the mean of the other things', as a share of the mean size of the model's lead. The authors patch the path
           from the head to the logits, whatever it attends to.
Control    In the corrupted prompt, what it writes from the same thing, now not asked for, into the same logits: a head
           that says all things of the list is no fetcher.
Behaviour  How often the right thing has the largest logit of those in the list.
Cause      At the last token the heads found give what they gave on the corrupted prompt: the right thing should lose
           its lead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, boxes

FAMILIES = {"three boxes": (3, False), "four boxes": (4, False), "numbered": (3, True)}  # and whether sentences are
BEHAVIOUR, EFFECT, POSITIONS = accuracy_among_rivals, logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """Things in boxes; corrupted, the same list with a question for another box. The pair leads to the thing."""
    drawn = boxes.contents(vocab, *FAMILIES[family], rng)
    end, thing = drawn.readouts[-1].position, drawn.spans["thing"]
    return replace(drawn, corrupted=drawn.alternatives["other box"], pairs=tuple((end, key) for key in thing))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes from the thing, in turn and out of turn, as a share of the lead: [prompt layer head]."""
    prompts = sample.prompts
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()
    things = [prompt.spans["thing"] for prompt in prompts]
    score, null = (direct_effects(model, prompts, things, corrupted) / lead for corrupted in (False, True))
    return Scores(score, null)
