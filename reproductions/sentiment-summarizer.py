"""Sentiment summarizers store the mood of a text at a later, neutral word.

Claim      At a word without a mood of its own, such as the second "movie", the head attends to the opinion words before
           it, or to the words right after them, and writes the mood there for later heads (tigges2024language).
Stimuli    Reviews after the authors' template: "I thought this movie was great, I loved it. Conclusion: This movie is",
           in three wordings. In the corrupted prompt the opinion words are of the other mood.
Score      The product of the paper's two tests. Patching the head from the corrupted prompt at the neutral word alone,
           which is the one before the last: what share of the corrupted prompt's whole effect on the logit difference
           it has. And the attention from the neutral word to the opinion words and the words right after them. No
           direction is fitted: what is written there is taken by its effect on the answer.
Control    The same patched from a review in other words of the same mood.
Behaviour  The logit of the right one of "great" and "terrible" minus that of the other.
Cause      The heads found give, at the neutral word alone, what they gave in the corrupted prompt: the lead should
           shrink.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.ablation import patch_sweeps
from headatlas.lab.attention import attention_on_pairs
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, opinions
from headatlas.stimuli.cases import first_usable, in_place, in_same_places

FAMILIES = {
    "I thought": "I thought this{show} was{adjective}, I{verb} it. Conclusion: This{show} is",
    "we all": "This{show} was{adjective}. We all{verb} it. Conclusion: The{show} is",
    "to me": "Yesterday I saw a{show}. It was{adjective} and I{verb} it. To me it is",
}
BEHAVIOUR, POSITIONS = logit_difference, [-2]
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A review, with its corrupted prompt and its alternative; read where its conclusion comes next."""
    return first_usable(lambda: review(vocab, FAMILIES[family], rng))


def review(vocab: Vocabulary, template: str, rng: random.Random) -> Prompt:
    """One draw, which the tokenizer may not be able to express."""
    case = opinions.review("train", rng, template)
    made, places = in_place(vocab, case)
    _, reworded = in_same_places(vocab, case.segments, opinions.reworded(case, rng))
    spans = [span for span, role in zip(places.spans, places.roles, strict=True) if role in ("adjective", "verb")]
    keys = sorted({key for start, end in spans for key in range(start, end + 1)})  # and the word right after each
    neutral = len(made.tokens) - 2
    return replace(made, pairs=tuple((neutral, key) for key in keys), alternatives={"same mood": reworded.ids})


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the effect that each head has at the neutral word, times its attention to the opinions."""
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["same mood"] for prompt in prompts])
    swept = patch_sweeps(model, prompts, BEHAVIOUR, sources, POSITIONS)
    looks = attention_on_pairs(model, prompts)  # [prompt layer head]
    score, null = (each.normalized_effect(swept[0]) * looks for each in swept)
    return Scores(score, null)
