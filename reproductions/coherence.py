"""Coherence heads keep what a model says in the language in which it was addressed.

Claim      On some heads it depends whether the answer stays in the language of the question (guo2024steering); in
           several models there are heads specific to one language, which guide the model to it and keep it out of
           others (liu2025focusing).
Stimuli    One to three sentences in a language, and the beginning of one that ends with a day, month or number in it:
           English, or French, German or Spanish. A tokenizer that has the words of Lumi, the made-up language of the
           specimen, is asked in that or in English for the kind of a thing.
Score      The direct effect at the last position: the logit of the right word in the language of the text minus that of
           its translation, of what the head writes, as a share of the mean size of that difference over the whole
           model. The sources score heads in other ways, one with a gradient for each language; what they share is the
           effect on the language of the output.
Control    The same two words, at the end of a text in the other language.
Behaviour  How often the right word is likelier in the language of the text than in the other: the content is the same.
Cause      The heads found are replaced by their mean over texts in both languages, which has none: the lead of the
           language should fall. The first source steers instead.
"""

import random
from dataclasses import replace

from headatlas.lab import OpenModel, Scores, logit_difference, metric_per_prompt
from headatlas.lab.attribution import direct_effects
from headatlas.lab.running import accuracy_among_rivals
from headatlas.protocol.script import PromptSample
from headatlas.stimuli import ProbeLabel, Prompt, UntestableError, Vocabulary, languages, probe_labels, second_language
from headatlas.stimuli.cases import Case, aligned

FAMILIES = {"after a sentence": 1, "after two": 2, "after three": 3}
BEHAVIOUR, EFFECT = accuracy_among_rivals, logit_difference
NEEDS_BEHAVIOUR = True


def stimulus(vocab: Vocabulary, family: str, rng: random.Random) -> Prompt:
    """A text in one of two languages, labelled with which; as many in each."""
    foreign, sentences = rng.random() < 0.5, FAMILIES[family]

    def draw() -> Case:
        if second_language.known(vocab):
            return second_language.consistency("train", rng, sentences, foreign)
        return languages.after(rng, foreign, sentences)

    prompt = aligned(vocab, draw)
    return replace(prompt, corrupted=prompt.tokens, probe=ProbeLabel(int(foreign)))


def detect(model: OpenModel, sample: PromptSample) -> Scores:
    """What each head writes for the language of the text, as a share of the whole: [prompt layer head]."""
    prompts, rng = sample.prompts, random.Random(0)
    lead = abs(metric_per_prompt(model, prompts, EFFECT)).mean()
    languages_of = probe_labels(prompts)
    if len(set(languages_of)) < 2:
        raise UntestableError("too few prompts: all are in one language")
    others = [
        rng.choice([other for other, its in zip(prompts, languages_of, strict=True) if its != mine])
        for mine in languages_of
    ]
    read = [
        replace(other, readouts=(replace(prompt.readouts[-1], position=len(other.tokens) - 1),))
        for prompt, other in zip(prompts, others, strict=True)
    ]
    return Scores(direct_effects(model, prompts) / lead, direct_effects(model, read) / lead)
