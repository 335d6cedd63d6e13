"""Translation indicator heads look at the words that ask for a translation, and bring the language to the answer.

Claim      Of the few heads whose path to the logits carries the translation of a word, some attend from the last token
           to the tokens that ask for it, such as the name of the language (zhang2025exploring).
Stimuli    A neutral sentence, then the request to translate an English word into French, German or Spanish, in three
           wordings, with the language just before the answer, in front of the word, or at the very beginning:
           "English: cloud. French:", "In French, cloud is", "French for cloud:". The corrupted prompt names another
           language. Where a tokenizer has the words of Lumi, the made-up language of the specimen, Lumi and English are
           named. The authors have "Nothing" in place of the language instead, for the heads of all roles together.
Score      Both halves of the definition: by what share of its mean the lead of the translation into the language named,
           over that into the other one, falls when the head's path from the last token to the logits is patched, with
           all other heads held and MLPs recomputed, times the attention from there to the name of the language. The
           authors patch in a subspace, and tell roles by attention weighted with values; colons count as well.
Control    The same patched from the same request after another neutral sentence.
Behaviour  How often the first token of the translation into the language named has the larger logit of the two.
Cause      The heads found are replaced by their mean over the corrupted prompts, which name other languages: the lead
           should shrink. The authors knock out the heads of all roles together.
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
    """A request, whose pairs lead from its end to the language; with its corrupted prompt and its alternative."""
    return word_translation.another_language(vocab, rng, FAMILIES[family])


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """The share of the lead that each head's direct path carries, times its attention to the language's name."""
    prompts = sample.prompts
    sources = (None, [prompt.alternatives["other opening"] for prompt in prompts])
    found = path_effects_from(model, prompts, EFFECT, sources, sender_positions="last")
    score, null = -found.effects / abs(found.clean.mean()) * attention_on_pairs(model, prompts)  # [prompt layer head]
    return Scores(score, null)
