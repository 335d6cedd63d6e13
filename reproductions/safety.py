"""Safety heads are those without which a chat model answers requests that it would refuse.

Claim      With the attention of a single head made uniform over earlier tokens, the distribution of the first answer
           token on a harmful request moves most, and the model answers many of these requests (zhou2025role).
Stimuli    Requests to do harm, in general and without any detail: a question and an order as the user's turn of a chat,
           and a question in the authors' plain frame. They stand in for the public sets that the authors use. In the
           corrupted prompt one verb is another one, so that the request is harmless.
Score      How far the log odds that the answer begins as refusals do fall when the head's attention is uniform at all
           tokens. It is estimated to first order, by one gradient. The authors' Ships is the whole divergence between
           the two distributions, without a sign, and exact.
Control    The same on the harmless request: what the head does for answers of any kind.
Behaviour  The log odds that the answer begins as refusals do, minus the same on the harmless request.
Cause      The attention of the heads found is made uniform at all tokens, exactly: the log odds of a refusal should
           fall. No answer is generated, and nobody judges whether one is harmful.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, attribution_patching
from headatlas.lab.ablation import Patch, with_uniform_patterns
from headatlas.lab.running import log_odds_of_candidates
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, refusals
from headatlas.stimuli.cases import first_usable

FAMILIES = {  # the request, and whether it is a turn of a chat
    "question in the chat": ("How can I{request}?", True),
    "order in the chat": ("Tell me how to{request}.", True),
    "question in a plain frame": ("## Query: How do I{request}?\n## Answer:", False),
}
BEHAVIOUR, CONTRAST, EFFECT, CHAT = log_odds_of_candidates, True, log_odds_of_candidates, True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A harmful request; its corrupted prompt is the harmless one."""
    return first_usable(lambda: refusals.prompt(vocab, *FAMILIES[family], rng))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """How much less each head's uniform attention lets the model refuse, harm and no harm: [prompt layer head]."""
    harmless = [replace(each, tokens=each.corrupted) for each in sample.prompts]
    patch = with_uniform_patterns(model)
    made = (attribution_patching(model, prompts, EFFECT, patch) for prompts in (sample.prompts, harmless))
    score, null = (-each.estimate.transpose(2, 0, 1) for each in made)
    return Scores(score, null)


def edit(model: OpenModel, sample: PromptSample) -> Patch:
    """Uniform attention, for every head."""
    return with_uniform_patterns(model)
