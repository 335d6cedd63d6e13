"""Translation source heads look at the word to be translated, and bring it to where the translation is to be said.

Claim      Of the few heads whose path to the logits carries the translation of a word, some attend from the last token
           to the word (zhang2025exploring).
Stimuli    A neutral sentence, then the request to translate an English word into French, German or Spanish, in three
           wordings: "English: cloud. French:", "In French, cloud is", "French for cloud:". Where a tokenizer has the
           words of Lumi, the made-up language of the specimen, into that. In the corrupted prompt another word stands
           there. The authors have "Nothing" in place of the language instead, for the heads of all roles together.
Score      Both halves of the definition: by what share of its mean the lead of the right translation over those of
           other words falls when the head's path from the last token to the logits is patched, with all other heads
           held and MLPs recomputed, times the attention from there to the word. The authors patch in a subspace, take
           the change of the translation's logit, and tell roles by attention weighted with values.
Control    The same patched from the same request after another neutral sentence.
Behaviour  How often the first token of the right translation has a larger logit than those of three other words.
Cause      The heads found are replaced by their mean over the corrupted prompts, which ask for other words: the right
           translation should lose its lead. The authors knock out the heads of all roles together.
"""

import random

from headatlas.lab import OpenModel, Scores, logit_difference
from headatlas.lab.attention import attention_on_pairs
from headatlas.lab.paths import path_effects_from
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import Prompt, Vocabulary, word_translation

FAMILIES = {
    "labels": " English:{word}.{language}:",
    "in the language": " In{language},{word} is",
    "word for": "{language} for{word}:",
}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
NEEDS_BEHAVIOUR, COST = True, "paths"


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A request, whose pairs lead from its end to the word; with its corrupted prompt and its alternative."""
    return word_translation.another_word(vocab, rng, FAMILIES[family])


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that each head's direct path carries, times its attention to the word."""
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["other opening"] for prompt in prompts])
    found = path_effects_from(model, prompts, EFFECT, sources, sender_positions="last")
    score, null = -found.effects / abs(found.clean.mean()) * attention_on_pairs(model, prompts)  # [prompt layer head]
    return Scores(score, null)
