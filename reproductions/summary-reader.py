"""Summary readers read at the end of a text the mood that was stored at a neutral word, and say it.

Claim      From the last token the head takes the mood from a neutral word where other heads stored it, the second
           "movie", rather than from the opinion words, and raises words of that mood (tigges2024language).
Stimuli    Reviews after the authors' template: "I thought this movie was great, I loved it. Conclusion: This movie is",
           in three wordings. In the corrupted prompt the opinion words are of the other mood, and the neutral word is
           the same, so that what differs there was stored there. It stands right before the last token, as in the
           paper, but in the third wording ("it must be") one word earlier: there a previous-token head does not meet
           it.
Score      What the head takes from the neutral word and writes directly into the logit difference of the moods, in the
           review minus in the corrupted prompt, as a share of the whole change. The authors patch the head to the
           logits, and then the neutral word into its values.
Control    The same, taken from the opinion words: a direct reader does not count.
Behaviour  The logit of the right one of "great" and "terrible" minus that of the other.
Cause      The heads found give, at the last token, what they gave in the corrupted prompt: the lead should shrink.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects_of_keys
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, opinions
from headatlas.stimuli.cases import first_usable, in_place

FAMILIES = {  # the review, and how many tokens before its last one the neutral word stands
    "I thought": ("I thought this{show} was{adjective}, I{verb} it. Conclusion: This{show} is", 1),
    "we all": ("This{show} was{adjective}. We all{verb} it. Conclusion: The{show} is", 1),
    "people said": ("People{verb} this{show}, they said it was{adjective}. So it must be", 2),
}
BEHAVIOUR, POSITIONS = logit_difference, "last"
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A review; from its end to the neutral word, and in the corrupted prompt to the opinion words."""
    template, back = FAMILIES[family]
    made, places = first_usable(lambda: in_place(vocab, opinions.review("train", rng, template)))
    end = len(made.tokens) - 1
    opinion = sorted(places.covers("adjective") + places.covers("verb"))
    return replace(made, pairs=((end, end - back),), null_pairs=tuple((end, key) for key in opinion))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the change between moods that each head takes from the neutral word, and from the opinions."""
    prompts = sample.prompts
    whole = float(abs(metric_per_prompt(model, prompts, BEHAVIOUR, minus_corrupted=True).mean()))

    neutral = [[key for _, key in prompt.pairs] for prompt in prompts]
    opinion = [[key for _, key in prompt.null_pairs] for prompt in prompts]
    here, there = (direct_effects_of_keys(model, prompts, [neutral, opinion], side) for side in (False, True))
    score, null = (here - there) / whole
    return Scores(score, null)
